//! Lists as CSV, for the API and for pages alike: RFC 4180, UTF-8, with a line of names.

use actix_web::http::Method;
use serde::Serialize;
use serde_json::Value;

use super::routes;

pub(crate) const CSV: &str = "text/csv; charset=utf-8; header=present";
/// The beginnings of a cell that a spreadsheet takes for a formula.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];

/// A list that becomes CSV.
pub(crate) struct CsvList {
    columns: Vec<String>,
    writer: csv::Writer<Vec<u8>>,
}

impl CsvList {
    /// Returns a list without rows. A column with dots is a value within an item.
    pub(crate) fn new(columns: Vec<String>) -> Self {
        let mut writer = csv::Writer::from_writer(Vec::new());
        // A write to memory does not fail.
        drop(writer.write_record(&columns));
        Self { columns, writer }
    }

    /// Returns a list without rows and without the line of names, which is before it.
    pub(crate) fn without_names(columns: Vec<String>) -> Self {
        let writer = csv::Writer::from_writer(Vec::new());
        Self { columns, writer }
    }

    /// Returns one with the columns of the list that `GET path` answers; they are none if it
    /// answers no list.
    pub(crate) fn of_call(path: &str) -> Self {
        Self::new(Self::columns_of_call(path))
    }

    /// Returns the columns of the list that `GET path` answers.
    pub(crate) fn columns_of_call(path: &str) -> Vec<String> {
        let route = routes::of_path(&Method::GET, path);
        route.map_or_else(Vec::new, |route| route.columns.clone())
    }

    /// Adds an item of the API as a row.
    pub(crate) fn push(&mut self, item: &impl Serialize) {
        let item = serde_json::to_value(item).unwrap_or(Value::Null);
        let cells = self.columns.iter().map(|column| {
            let parts = column.split('.');
            cell(parts.fold(&item, |value, part| &value[part]))
        });
        // A row has a cell for each column, always.
        drop(self.writer.write_record(cells));
    }

    pub(crate) fn into_text(self) -> Vec<u8> {
        self.writer.into_inner().unwrap_or_default()
    }
}

/// Returns a page of a list as CSV; none if it is no page.
pub(super) fn of_page(columns: &[String], page: &Value) -> Option<Vec<u8>> {
    let mut list = CsvList::new(columns.to_vec());
    for item in page["items"].as_array()? {
        list.push(item);
    }
    Some(list.into_text())
}

/// Returns a value as a cell: null is empty, and the texts of an array are separated by `;`.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => harmless(text),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let texts: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            harmless(&texts.join(";"))
        }
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Returns a text that no spreadsheet computes. Some split at semicolons, quoted or not.
fn harmless(text: &str) -> String {
    let parts = text.split(';').map(|part| match part.starts_with(FORMULA) {
        true => format!("'{part}"),
        false => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_values_and_never_formulas() {
        for (value, expected) in [
            (json!(null), ""),
            (json!(-1.5), "-1.5"),
            (json!(true), "true"),
            (json!("plain = text"), "plain = text"),
            (
                json!("=HYPERLINK(\"http://a\")"),
                "'=HYPERLINK(\"http://a\")",
            ),
            (json!("+1"), "'+1"),
            (json!("-1"), "'-1"),
            (json!("@a"), "'@a"),
            (json!("\t=a"), "'\t=a"),
            (json!("\r=a"), "'\r=a"),
            (json!(["=a", "b"]), "'=a;b"),
            (json!("Fix;=a"), "Fix;'=a"),
            (json!([{"pr": 1}]), "[{\"pr\":1}]"),
        ] {
            assert_eq!(cell(&value), expected);
        }
    }
}
