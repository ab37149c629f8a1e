//! The OpenAPI document: valid, complete, and true of every answer.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::conformity::{document, operations};
use testkit::{TestServer, fixtures};

/// The schema of OpenAPI 3.1 documents by the OpenAPI Initiative (Apache-2.0).
const OFFICIAL: &str = include_str!("openapi-3.1.schema.json");

#[test]
fn document_is_valid_openapi() {
    let official: Value = serde_json::from_str(OFFICIAL).unwrap();
    let official = jsonschema::draft202012::new(&official).unwrap();
    let errors: Vec<_> = official
        .iter_errors(document())
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // The official schema leaves the schemas within to their own dialect.
    for (name, schema) in document()["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
    }
}

/// Collects the names of the schemas that a part of the document refers to.
fn references<'a>(part: &'a Value, names: &mut BTreeSet<&'a str>) {
    match part {
        Value::Object(fields) => {
            for (field, value) in fields {
                match value.as_str() {
                    Some(reference) if field == "$ref" => {
                        names.insert(reference.strip_prefix("#/components/schemas/").unwrap());
                    }
                    _ => references(value, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

#[test]
fn every_schema_is_defined_and_used() {
    let mut used = BTreeSet::new();
    references(document(), &mut used);
    let schemas = document()["components"]["schemas"].as_object().unwrap();
    let defined: BTreeSet<_> = schemas.keys().map(String::as_str).collect();
    assert_eq!(used, defined);
}

#[test]
fn every_call_is_described() {
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations() {
        let call = format!("{method} {path}");
        let name = operation["operationId"].as_str().unwrap();
        assert!(
            names.insert(name),
            "{call}: operationId {name} is used twice"
        );
        assert!(operation["summary"].is_string(), "{call} has no summary");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let description = parameter["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{call}: {}", parameter["name"]);
        }
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses {
            let description = response["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{call} {status}");
            let is_empty = ["101", "204", "303", "304"].contains(&status.as_str());
            assert!(
                is_empty || response["content"].is_object(),
                "{call} {status} has no body"
            );
        }
        let has_token = operation["security"].is_array();
        assert_eq!(
            has_token,
            path.starts_with("/api/") || path == "/ws",
            "{call}"
        );
        for status in ["400", "401", "429", "503", "default"]
            .iter()
            .filter(|_| has_token)
        {
            assert!(responses.contains_key(*status), "{call} lacks {status}");
        }
    }
    assert!(document()["components"]["securitySchemes"]["token"].is_object());
}

#[test]
fn fields_that_are_always_there_are_required() {
    let schemas = &document()["components"]["schemas"];
    let names = |schema: &'static Value| {
        let names = schema["required"].as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let required = |name: &str| names(&schemas[name]);
    // Its own fields are the last part, after those of the parts that are flattened into it.
    let parts = schemas["PullRequestItem"]["allOf"].as_array().unwrap();
    let own = parts.last().unwrap();
    let item = &own["properties"];
    let fields: BTreeSet<_> = item
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names(own), fields);
    assert_eq!(item["merged_at"]["type"], json!(["string", "null"]));
    assert_eq!(
        required("Page_PullRequestItem"),
        BTreeSet::from(["items", "next"])
    );
    // These may be left out.
    assert!(!required("DurationSummary").contains("values"));
    // A field of a request may be left out.
    assert_eq!(required("TaskMade"), BTreeSet::from(["title"]));
}

#[tokio::test]
async fn every_read_has_the_documented_form() {
    let mut server = TestServer::start().await;
    for fixture in fixtures() {
        server
            .post(&fixture.event, &fixture.guid, &fixture.payload)
            .await;
    }
    server
        .post("pull_request", "dead", br#"{"action":"opened"}"#)
        .await;
    server.drained().await;
    let task = json!({"key": "PROJ-1", "title": "Sort"});
    assert_eq!(server.ask(Method::POST, "/api/tasks", &task).await.0, 201);
    let (_, dead) = server.get("/api/dead-letters").await;
    let id = dead["items"][0]["id"].to_string();
    let paths: Vec<_> = operations()
        .filter(|(method, path, _)| {
            // Runs need GitHub, and exports are no JSON; both have tests of their own.
            let is_other = *path == "/api/sync-runs/{id}" || path.ends_with("/export");
            method == "GET" && path.starts_with("/api/") && !is_other
        })
        .map(|(_, path, _)| path)
        .collect();
    for path in paths {
        let id = if path.starts_with("/api/tasks") || path.starts_with("/api/stories") {
            "PROJ-1"
        } else {
            &id
        };
        let path = path
            .replace("{owner}/{repo}", "acme-corp/api-server")
            .replace("{number}", "107")
            .replace("{guid}", "dead")
            .replace("{id}", id);
        let path = match path.as_str() {
            "/api/metrics/compare" => format!("{path}?from=30d"),
            _ => path,
        };
        // The server of the tests compares each answer with the document.
        let (status, answer) = server.get(&path).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    server.stop().await;
}
