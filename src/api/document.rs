//! The OpenAPI document: collected from the registrations of the handlers, and completed by what
//! every call has.

use actix_web::App;
use actix_web::http::Method;
use serde_json::{Value, json};
use tallyhook_store::AccessRole;
use utoipa::OpenApi;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Components, RefOr};
use utoipa_actix_web::AppExt;

use super::access::CallAccess;
use super::routes::DocumentedRoute;
use super::{add_routes, error, session_cookie};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tallyhook",
        description = "Self-hosted GitHub event processor: pull requests and where their time goes.\n\n\
            **Teams.** A call whose `x-tallyhook-access` has the class `team` acts in one team. The \
            short path `/api/...` means the team of the token, or the one that the session chose, or \
            the only one of the person; a person in several who has chosen none gets 409 \
            `team_needed`. Each of these calls is at `/api/teams/{team}/...`, too, in place of \
            `/api/...`, and acts in the team of that slug: `/api/teams/mobile/prs` is `/api/prs` of \
            the team `mobile`. A team that the caller is not in answers as one that does not exist. \
            Operators are in every team. A call with `x-tallyhook-team: optional` is answered \
            without a team, too."
    ),
    // Its route belongs to the role ingest.
    paths(crate::ingest::receive),
    components(schemas(
        error::ApiErrorBody,
        // Of parameters, whose schemas are not collected.
        tallyhook_core::domain::metrics::AuthorFilter,
        tallyhook_core::domain::business_time::DurationClock,
        tallyhook_core::domain::metrics::CalendarBucket,
        tallyhook_core::domain::metrics::DurationName,
        tallyhook_core::domain::metrics::ExclusionReason,
        super::metrics::Breakdown,
        super::metrics::ComparedRange,
        super::audit::RecordFormat,
        super::waiting::WaitingOnKind,
        tallyhook_core::domain::timings::Flag,
        tallyhook_core::domain::waiting::WaitingFor,
        super::listing::ListSort,
        super::listing::SortOrder,
    )),
    tags(
        (name = "pull requests", description = "Pull requests and the derivation of their numbers"),
        (name = "metrics", description = "Cycle times, review times and stages"),
        (name = "repositories",
            description = "Tracked repositories, watched pull requests, backfills and the poller"),
        (name = "tasks", description = "Tasks and their pull requests"),
        (name = "notifications", description = "Notifications over WebSocket and channels"),
        (name = "settings", description = "The settings in force"),
        (name = "teams", description = "Teams: the caller's, and new ones"),
        (name = "members", description = "Members of the team, invitations, and rules about GitHub"),
        (name = "audit", description = "The record of administrative acts and of requests to GitHub"),
        (name = "tokens", description = "API tokens of the team"),
        (name = "sessions", description = "The caller, and browsers that signed in"),
        (name = "deliveries", description = "The inbox and its dead letters"),
        (name = "webhooks", description = "The endpoint of GitHub's webhooks"),
        (name = "health", description = "For load balancers and Prometheus; open without a token"),
    )
)]
struct ApiDocument;

/// The errors that every call with a token can answer besides its own.
const COMMON_ERRORS: [(&str, &str); 6] = [
    (
        "400",
        "a parameter or the body is unknown or has a form that it cannot have",
    ),
    ("401", "the token is missing or invalid"),
    (
        "403",
        "the role of the token does not allow it, or a page of another site made the request",
    ),
    (
        "429",
        "this address has sent many wrong tokens; `Retry-After` names the pause",
    ),
    ("503", "the database or GitHub is not available now"),
    ("default", "another error, such as one of GitHub"),
];
/// Those of a call with a body, besides.
const BODY_ERRORS: [(&str, &str); 3] = [
    ("408", "the body did not arrive in time"),
    ("413", "the body is larger than 2 MiB"),
    ("415", "the body is not `application/json`"),
];

/// The parts of paths, where a call does not describe its own.
const PATH_PARAMETERS: [(&str, &str); 7] = [
    ("owner", "the owner of the repository"),
    ("repo", "the name of the repository"),
    ("number", "the number of the pull request"),
    ("guid", "GitHub's id of the delivery"),
    ("id", "its id, as lists show it"),
    ("name", "its name"),
    ("user", "the id of the person"),
];

/// Returns the API's description, OpenAPI 3.1 in JSON.
///
/// # Errors
/// Never for this document; the type is that of serde.
pub fn openapi() -> serde_json::Result<String> {
    let mut document = serde_json::to_value(collect(true))?;
    complete(&mut document);
    serde_json::to_string_pretty(&document)
}

/// Collects the calls of a process; with `readers` of one that serves the API.
fn collect(readers: bool) -> utoipa::openapi::OpenApi {
    let mut described = ApiDocument::openapi();
    // GitHub signs its webhooks.
    CallAccess::Open.mark(&mut described.paths);
    let app = App::new()
        .into_utoipa_app()
        .openapi(described)
        .configure(|service| add_routes(service, readers));
    app.split_for_parts().1
}

/// Returns the routes of a process, without that of webhooks, which answers for itself.
pub(super) fn routes(readers: bool) -> Vec<DocumentedRoute> {
    let described = collect(readers);
    let components = described.components.clone().unwrap_or_default();
    let document = serde_json::to_value(&described).unwrap_or_default();
    let paths = document["paths"].as_object().into_iter().flatten();
    let mut routes = Vec::new();
    for (path, item) in paths.filter(|(path, _)| !path.starts_with("/webhooks")) {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else {
                continue;
            };
            routes.push(DocumentedRoute {
                method,
                parts: path.split('/').map(str::to_owned).collect(),
                parameters: query_parameters(operation),
                columns: list_item(operation)
                    .map(|item| columns(&components, item))
                    .unwrap_or_default(),
                // Not reached: `add_routes` takes no call without one.
                access: CallAccess::of_operation(operation)
                    .unwrap_or(CallAccess::Role(AccessRole::Operator)),
            });
        }
    }
    routes
}

fn query_parameters(operation: &Value) -> Vec<String> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let names = parameters
        .filter(|parameter| parameter["in"] == "query")
        .filter_map(|parameter| parameter["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Returns the name of the items of a list, whose schema is named `Page_ITEM`.
fn list_item(operation: &Value) -> Option<&str> {
    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    schema["$ref"]
        .as_str()?
        .strip_prefix("#/components/schemas/Page_")
}

/// Returns the columns of a schema in the order of its declaration; a struct within is a column
/// for each of its fields.
fn columns(components: &Components, name: &str) -> Vec<String> {
    match components.schemas.get(name) {
        Some(schema) => columns_of(components, schema),
        None => Vec::new(),
    }
}

fn columns_of(components: &Components, schema: &RefOr<Schema>) -> Vec<String> {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next();
            columns(components, name.unwrap_or_default())
        }
        RefOr::T(Schema::AllOf(parts)) => {
            // The item's own fields are before those of the parts that it shares with others.
            let (shared, own): (Vec<_>, Vec<_>) = parts
                .items
                .iter()
                .partition(|part| matches!(part, RefOr::Ref(_)));
            own.into_iter()
                .chain(shared)
                .flat_map(|part| columns_of(components, part))
                .collect()
        }
        RefOr::T(Schema::Object(object)) => {
            let mut columns = Vec::new();
            for (field, schema) in &object.properties {
                let within = columns_of(components, schema);
                if within.is_empty() {
                    columns.push(field.clone());
                }
                columns.extend(within.iter().map(|name| format!("{field}.{name}")));
            }
            columns
        }
        RefOr::T(_) => Vec::new(),
    }
}

/// Adds to the document what every call has.
fn complete(document: &mut Value) {
    document["components"]["securitySchemes"]["token"] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": "A token of `tallyhook token create NAME`.",
    });
    document["components"]["securitySchemes"]["session"] = json!({
        "type": "apiKey",
        "in": "cookie",
        "name": session_cookie::NAME,
        "description": "The session of a browser, from `POST /login`; over plain HTTP on the \
            server's machine the name is `tallyhook`.",
    });
    share_items(&mut document["components"]["schemas"]);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete_operation(path, method, operation);
        }
    }
    let mut names = Vec::new();
    answered_schemas(document, &document["paths"], &mut names);
    for name in names {
        require_nullable(&mut document["components"]["schemas"][name]);
    }
}

/// Lets each page refer to the schema of its items, of which it has a copy.
fn share_items(schemas: &mut Value) {
    let pages = schemas.as_object().into_iter().flatten();
    let items = pages.filter_map(|(name, page)| {
        let item = name.strip_prefix("Page_")?;
        Some((
            item.to_owned(),
            page["properties"]["items"]["items"].clone(),
        ))
    });
    for (item, schema) in items.collect::<Vec<_>>() {
        let reference = json!({"$ref": format!("#/components/schemas/{item}")});
        schemas[format!("Page_{item}")]["properties"]["items"]["items"] = reference;
        if schemas.get(&item).is_none() {
            schemas[item] = schema;
        }
    }
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    let is_list = list_item(operation).is_some();
    let has_body = operation.get("requestBody").is_some();
    let needs_token = operation.get("security").is_some();
    describe_parameters(operation);
    if let Some(security) = operation.get_mut("security").and_then(Value::as_array_mut) {
        security.insert(1, json!({"session": []}));
    }
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    if needs_token {
        let bodies = BODY_ERRORS.iter().filter(|_| has_body);
        for (status, description) in COMMON_ERRORS.iter().chain(bodies) {
            let error = responses
                .entry((*status).to_owned())
                .or_insert_with(|| error_response(description));
            if error["description"].as_str().is_none_or(str::is_empty) {
                error["description"] = (*description).into();
            }
        }
    }
    if let Some(read) = responses.get_mut("200")
        && method == "get"
        && path.starts_with("/api/")
    {
        add_forms(read, is_list);
        let description = "what the client has, as `If-None-Match` says, is current";
        responses.insert("304".to_owned(), json!({"description": description}));
    }
    for (status, response) in responses {
        let is_error = status.starts_with(['4', '5']);
        if is_error && response.get("content").is_none() {
            response["content"] = error_response("")["content"].take();
        }
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = match status.as_str() {
                "404" => "there is no such thing",
                _ => "the answer",
            }
            .into();
        }
    }
}

/// Describes the parts of the path that a call does not describe by itself.
fn describe_parameters(operation: &mut Value) {
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let mut known = PATH_PARAMETERS
            .iter()
            .filter(|(name, _)| parameter["name"] == *name);
        if let Some((_, description)) = known.next()
            && parameter["in"] == "path"
            && parameter.get("description").is_none()
        {
            parameter["description"] = (*description).into();
        }
    }
}

fn error_response(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/ErrorBody"});
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

/// Adds the forms that `answers` gives to a read.
fn add_forms(read: &mut Value, is_list: bool) {
    read["headers"]["ETag"] = json!({
        "description": "names this answer, for `If-None-Match`",
        "schema": {"type": "string"},
    });
    if is_list {
        let description = "a line of names, then one for each item; `Link` has the next page";
        let schema = json!({"type": "string", "description": description});
        read["content"]["text/csv"] = json!({"schema": schema});
    }
}

/// Collects the names of the schemas that answers have.
fn answered_schemas(document: &Value, within: &Value, names: &mut Vec<String>) {
    match within {
        Value::Object(fields) => {
            for (field, value) in fields {
                match (field.as_str(), value.as_str()) {
                    ("requestBody" | "parameters", _) => {}
                    ("$ref", Some(reference)) => {
                        let name = reference.trim_start_matches("#/components/schemas/");
                        if !names.iter().any(|known| known == name) {
                            names.push(name.to_owned());
                            let schema = &document["components"]["schemas"][name];
                            answered_schemas(document, schema, names);
                        }
                    }
                    _ => answered_schemas(document, value, names),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                answered_schemas(document, item, names);
            }
        }
        _ => {}
    }
}

/// Marks the fields of an answer that may be null or anything as required: they are always there. A field that
/// may be left out cannot be null.
fn require_nullable(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
                let nullable = properties.iter().filter(|(_, schema)| is_nullable(schema));
                let nullable: Vec<Value> = nullable.map(|(name, _)| name.as_str().into()).collect();
                let required = fields.entry("required").or_insert_with(|| json!([]));
                if let Some(required) = required.as_array_mut() {
                    let new = nullable.into_iter().filter(|name| !required.contains(name));
                    let new: Vec<_> = new.collect();
                    required.extend(new);
                }
            }
            fields.values_mut().for_each(require_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(require_nullable),
        _ => {}
    }
}

fn is_nullable(schema: &Value) -> bool {
    let has_null = |alternatives: &Value| {
        let mut alternatives = alternatives.as_array().into_iter().flatten();
        alternatives.any(|one| one == "null" || one["type"] == "null")
    };
    let is_any = !["type", "oneOf", "allOf", "$ref"]
        .iter()
        .any(|key| schema.get(key).is_some());
    is_any || has_null(&schema["type"]) || has_null(&schema["oneOf"])
}
