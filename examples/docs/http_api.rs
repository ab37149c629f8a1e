//! The HTTP API, from its OpenAPI description.

use anyhow::Context;
use serde_json::{Value, json};

use crate::markdown::{anchor, code, heading, one_line, table};
use crate::schemas::{Schemas, list, text};

pub(crate) fn page() -> anyhow::Result<String> {
    let document: Value = serde_json::from_str(&tallyhook::api::openapi()?)?;
    let schemas = document["components"]["schemas"].as_object();
    let schemas = Schemas(schemas.context("there are no schemas")?);
    let operations = operations(&document, &schemas)?;
    let mut page = heading("HTTP API", "the OpenAPI description in `src/api/`");
    page += "\n`tallyhook openapi` prints the same as OpenAPI 3.1. [Use the \
             API](../guides/use-the-api.md) explains tokens, lists, times and errors.\n";
    let rows: Vec<_> = operations
        .iter()
        .map(|operation| [operation.link(), operation.summary()])
        .collect();
    page += &table(["call", "answer"], &rows);
    for tag in list(&document["tags"]) {
        let (name, description) = (text(&tag["name"]), text(&tag["description"]));
        page += &format!(
            "\n## {}\n\n{}.\n",
            capitalised(name),
            description.trim_end_matches('.')
        );
        for operation in operations
            .iter()
            .filter(|operation| operation.has_tag(name))
        {
            page += &operation.section();
        }
    }
    page += "\n## Schemas\n";
    Ok(page + &schemas.sections())
}

/// One method of one path.
struct Operation<'a> {
    title: String,
    value: &'a Value,
    schemas: &'a Schemas<'a>,
}

fn operations<'a>(
    document: &'a Value,
    schemas: &'a Schemas<'a>,
) -> anyhow::Result<Vec<Operation<'a>>> {
    let paths = document["paths"]
        .as_object()
        .context("there are no paths")?;
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, value) in item.as_object().into_iter().flatten() {
            operations.push(Operation {
                title: format!("{} {path}", method.to_uppercase()),
                value,
                schemas,
            });
        }
    }
    Ok(operations)
}

impl Operation<'_> {
    fn link(&self) -> String {
        format!("[`{}`](#{})", self.title, anchor(&self.title))
    }

    fn summary(&self) -> String {
        one_line(text(&self.value["summary"]))
    }

    fn has_tag(&self, name: &str) -> bool {
        list(&self.value["tags"]).iter().any(|tag| tag == name)
    }

    fn section(&self) -> String {
        let description = one_line(text(&self.value["description"]));
        let paragraphs = [
            format!("### {}", self.title),
            self.summary(),
            description,
            self.access(),
        ];
        let mut section: String = paragraphs
            .iter()
            .filter(|paragraph| !paragraph.is_empty())
            .map(|paragraph| format!("\n{paragraph}\n"))
            .collect();
        let parameters: Vec<_> = list(&self.value["parameters"])
            .iter()
            .map(|parameter| self.parameter(parameter))
            .collect();
        section += &table(["parameter", "in", "type", "meaning"], &parameters);
        if let Some(body) = self.body_type(&self.value["requestBody"]) {
            section += &format!("\nBody: {body}\n");
        }
        section + &table(["status", "body", "when"], &self.responses())
    }

    /// A sentence about the callers that the call admits.
    fn access(&self) -> String {
        let role = text(&self.value["x-tallyhook-access"]["role"]);
        let without = list(&self.value["security"])
            .iter()
            .any(|way| *way == json!({}));
        match (role, without) {
            ("", _) => "Needs no token.".to_owned(),
            (role, false) => format!("Needs the role `{role}`."),
            (role, true) => {
                format!("Needs the role `{role}`, or the parameter that replaces a token.")
            }
        }
    }

    fn parameter(&self, parameter: &Value) -> [String; 4] {
        let is_required = parameter["required"] == true && parameter["in"] != "path";
        let required = if is_required { " (required)" } else { "" };
        [
            format!("{}{required}", code(text(&parameter["name"]))),
            text(&parameter["in"]).to_owned(),
            self.schemas.type_of(&parameter["schema"]),
            text(&parameter["description"]).to_owned(),
        ]
    }

    /// The type of the first content of a request's or response's body.
    fn body_type(&self, body: &Value) -> Option<String> {
        let content = body["content"].as_object()?.values().next()?;
        Some(self.schemas.type_of(content.get("schema")?))
    }

    fn responses(&self) -> Vec<[String; 3]> {
        let responses = self.value["responses"].as_object().into_iter().flatten();
        let row = |(status, response): (&String, &Value)| {
            [
                status.clone(),
                self.body_type(response).unwrap_or_default(),
                text(&response["description"]).to_owned(),
            ]
        };
        responses.map(row).collect()
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
