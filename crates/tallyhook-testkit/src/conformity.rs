//! Answers of the API against its OpenAPI document.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::Value;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&tallyhook::api::openapi().unwrap()).unwrap());
/// The schemas of answers that were compiled so far, by their text.
static VALIDATORS: LazyLock<Mutex<HashMap<String, &'static Validator>>> =
    LazyLock::new(Mutex::default);

/// Returns the OpenAPI document of the API.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Returns every operation: its method in capitals, its path, and its description.
pub fn operations() -> impl Iterator<Item = (String, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(|(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

/// Asserts that the document knows an answer, and that its body has the documented schema. A path
/// that is not documented must not be found. One that names a team is documented as the short one.
#[track_caller]
pub fn assert_documented(method: &str, path: &str, status: u16, body: &Value) {
    let path = path.split('?').next().unwrap();
    let of_team = path.strip_prefix("/api/teams/");
    let of_team = of_team.and_then(|path| path.split_once('/'));
    let path = &*of_team.map_or(path.to_owned(), |(_, rest)| format!("/api/{rest}"));
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<_>, Vec<_>) =
            (pattern.split('/').collect(), path.split('/').collect());
        let mut parts = pattern.iter().zip(&path);
        pattern.len() == path.len()
            && parts.all(|(known, part)| known == part || known.starts_with('{'))
    };
    let operation = operations()
        .filter(|(known, pattern, _)| known == method && fits(pattern))
        .min_by_key(|(_, pattern, _)| pattern.matches('{').count());
    let Some((_, pattern, operation)) = operation else {
        assert!(
            (400..500).contains(&status),
            "{method} {path}: {status} {body}"
        );
        return;
    };
    let responses = &operation["responses"];
    let response = match &responses[status.to_string()] {
        Value::Null if status >= 400 => &responses["default"],
        response => response,
    };
    assert!(
        response.is_object(),
        "{method} {pattern} does not document {status}: {body}"
    );
    let schema = &response["content"]["application/json"]["schema"];
    if schema.is_null() {
        assert!(
            body.is_null(),
            "{method} {pattern} documents no body of {status}: {body}"
        );
        return;
    }
    let errors: Vec<_> = validator(schema)
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        errors.is_empty(),
        "{method} {pattern} {status}: {errors:#?}\n{body}"
    );
}

fn validator(schema: &Value) -> &'static Validator {
    let mut validators = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    validators.entry(schema.to_string()).or_insert_with(|| {
        let mut schema = schema.clone();
        schema["components"] = DOCUMENT["components"].clone();
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        Box::leak(Box::new(options.build(&schema).unwrap()))
    })
}
