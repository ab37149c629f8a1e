//! The tables of pages as files: the rows and columns that the API answers as CSV.

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_DISPOSITION, LINK};
use serde::Serialize;

use super::links::query_string;
use super::page::{PageRequest, PageResult};
use crate::api::{ApiError, CSV, CsvList, Page};

/// The most rows of a file; the next ones are behind its `Link`.
const MAX_ROWS: usize = 10_000;

/// Answers with all rows of the list that `GET call` answers to this query, as the file `name`.
/// `read` gets the query of each page of the list.
pub(super) async fn list<T: Serialize>(
    page: &PageRequest,
    name: &str,
    call: &str,
    query: &str,
    read: impl AsyncFn(String) -> Result<Page<T>, ApiError>,
) -> PageResult {
    let mut file = CsvList::of_call(call);
    let mut cursor = page.parameter("cursor").map(str::to_owned);
    let mut rows = 0;
    loop {
        let found = read(page_of(query, cursor.as_deref().unwrap_or_default())).await?;
        rows += found.items.len();
        found.items.iter().for_each(|item| file.push(item));
        cursor = found.next;
        if cursor.is_none() || rows >= MAX_ROWS {
            break;
        }
    }
    Ok(answer(name, rows, cursor.as_deref(), file))
}

/// Answers with these rows as the file `name`: each is an item whose values the columns name.
pub(super) fn table(name: &str, columns: &[&str], rows: &[impl Serialize]) -> HttpResponse {
    let mut file = CsvList::new(columns.iter().map(|&column| column.to_owned()).collect());
    rows.iter().for_each(|row| file.push(row));
    answer(name, rows.len(), None, file)
}

/// Returns the query of the page of a list that begins at `cursor`.
fn page_of(query: &str, cursor: &str) -> String {
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| !["count", "cursor", "per_page"].contains(&name.as_ref()))
        .collect();
    let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
    query_string(pairs.chain([("per_page", "100"), ("cursor", cursor)]))
}

fn answer(name: &str, rows: usize, next: Option<&str>, file: CsvList) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    // A file that does not have everything says so by its name.
    let name = match next {
        Some(_) => format!("{name}-first-{rows}"),
        None => name.to_owned(),
    };
    response.content_type(CSV).insert_header((
        CONTENT_DISPOSITION,
        format!("attachment; filename=\"{name}.csv\""),
    ));
    if let Some(cursor) = next {
        let next = query_string([("cursor", cursor)]);
        response.insert_header((LINK, format!("<?{next}>; rel=\"next\"")));
    }
    response.body(file.into_text())
}
