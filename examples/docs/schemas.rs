//! The schemas of an OpenAPI description, and types in words.

use serde_json::{Map, Value};

use crate::markdown::{anchor, code, one_line, table};

/// The named schemas of a description.
pub(crate) struct Schemas<'a>(pub(crate) &'a Map<String, Value>);

impl Schemas<'_> {
    /// A section for each schema.
    pub(crate) fn sections(&self) -> String {
        let sections = self
            .0
            .iter()
            .map(|(name, schema)| self.section(name, schema));
        sections.collect()
    }

    fn section(&self, name: &str, schema: &Value) -> String {
        let description = one_line(text(&schema["description"]));
        let description = if description.is_empty() {
            String::new()
        } else {
            format!("\n{description}\n")
        };
        format!("\n### {name}\n{description}{}", self.body(name, schema))
    }

    fn body(&self, name: &str, schema: &Value) -> String {
        if schema["properties"].is_object() {
            return self.fields(name, schema);
        }
        let is_object = |schema: &Value| schema["properties"].is_object();
        let (variants, parts) = (list(&schema["oneOf"]), list(&schema["allOf"]));
        if !variants.is_empty() && variants.iter().all(is_object) {
            let number = variants.len();
            let variant = |(place, variant)| {
                format!(
                    "\nVariant {} of {number}:\n{}",
                    place + 1,
                    self.fields(name, variant)
                )
            };
            return variants.iter().enumerate().map(variant).collect();
        }
        if !parts.is_empty() {
            let (own, others): (Vec<_>, Vec<_>) = parts.iter().partition(|part| is_object(part));
            let others: Vec<_> = others.into_iter().map(|part| self.type_of(part)).collect();
            let own = own.into_iter().map(|part| self.fields(name, part));
            return format!(
                "\nAll fields of {}, and:\n{}",
                others.join(" and "),
                own.collect::<String>()
            );
        }
        format!("\n{}\n", self.type_of(schema))
    }

    fn fields(&self, name: &str, schema: &Value) -> String {
        let properties = schema["properties"].as_object().into_iter().flatten();
        let row = |(field, schema): (&String, &Value)| {
            let field_type = match name.strip_prefix("Page_") {
                // The items of a page are described in place, but have a section of their own.
                Some(item) if field == "items" => format!("list of {}", self.link(item)),
                _ => self.type_of(schema),
            };
            [code(field), field_type, description_of(schema).to_owned()]
        };
        table(
            ["field", "type", "meaning"],
            &properties.map(row).collect::<Vec<_>>(),
        )
    }

    /// The name of a schema, as a link where it has a section.
    fn link(&self, name: &str) -> String {
        if self.0.contains_key(name) {
            format!("[{name}](#{})", anchor(name))
        } else {
            name.to_owned()
        }
    }

    /// A type in words: a link for a schema of its own, else JSON's name or its format.
    pub(crate) fn type_of(&self, schema: &Value) -> String {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.link(reference.rsplit('/').next().unwrap_or_default());
        }
        let alternatives = [&schema["oneOf"], &schema["anyOf"]].into_iter();
        let alternatives: Vec<_> = alternatives
            .flat_map(list)
            .map(|schema| self.type_of(schema))
            .collect();
        let values: Vec<_> = list(&schema["enum"])
            .iter()
            .filter_map(Value::as_str)
            .map(code)
            .collect();
        if !alternatives.is_empty() {
            alternatives.join(" or ")
        } else if !values.is_empty() {
            values.join(", ")
        } else {
            self.plain_type(schema)
        }
    }

    fn plain_type(&self, schema: &Value) -> String {
        let names = match &schema["type"] {
            Value::Array(names) => names.as_slice(),
            name => std::slice::from_ref(name),
        };
        let word = |name: &str| match (name, schema["format"].as_str()) {
            ("array", _) => format!("list of {}", self.type_of(&schema["items"])),
            ("string", Some("date-time")) => "timestamp".to_owned(),
            ("string", Some("uuid")) => "UUID".to_owned(),
            _ => name.to_owned(),
        };
        let words: Vec<_> = names.iter().filter_map(Value::as_str).map(word).collect();
        if words.is_empty() {
            "any".to_owned()
        } else {
            words.join(" or ")
        }
    }
}

/// A field's description, also where it stands beside a reference among alternatives.
fn description_of(field: &Value) -> &str {
    let alternatives = list(&field["oneOf"])
        .iter()
        .map(|alternative| &alternative["description"]);
    std::iter::once(&field["description"])
        .chain(alternatives)
        .map(text)
        .find(|description| !description.is_empty())
        .unwrap_or_default()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
