//! The form of successful reads: CSV where a client prefers it, validators, and 304 for what the
//! client has.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    Accept, CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, Header, IfNoneMatch, LINK, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{DefaultHeaders, Next};
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::routes::{self, DocumentedRoute};

const CSV: &str = "text/csv; charset=utf-8; header=present";
/// The beginnings of a cell that a spreadsheet takes for a formula.
const FORMULA: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\n'];
/// Bytes of a validator: enough that no two answers share one.
const TAG_BYTES: usize = 16;

/// Middleware of answers that a cookie opens: no page of another site may load, frame or render them,
/// and none learns the addresses of this one.
pub(super) fn guarding_headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((
            "Content-Security-Policy",
            "default-src 'none'; frame-ancestors 'none'",
        ))
        .add(("Cross-Origin-Resource-Policy", "same-origin"))
        .add(("Referrer-Policy", "same-origin"))
}

/// Middleware that gives successful reads their form.
pub(super) async fn finish_reads(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let answer = next.call(request).await?.map_into_boxed_body();
    let is_read = answer.request().method() == Method::GET && answer.status() == StatusCode::OK;
    if !is_read {
        return Ok(answer);
    }
    let (request, response) = answer.into_parts();
    let (head, body) = response.into_parts();
    let response = match body.try_into_bytes() {
        Ok(body) => {
            let content_type = head.headers().get(CONTENT_TYPE).cloned();
            let mut form = AnswerForm {
                content_type: content_type
                    .and_then(|value| value.to_str().map(str::to_owned).ok())
                    .unwrap_or_default(),
                body,
                next: None,
            };
            form.prefer_csv(&request);
            form.response(&request)
        }
        Err(body) => head.set_body(body),
    };
    Ok(ServiceResponse::new(request, response))
}

/// A successful answer in the form that its client gets.
struct AnswerForm {
    content_type: String,
    body: Bytes,
    /// The query of the next page, where the body does not have it.
    next: Option<String>,
}

impl AnswerForm {
    /// Turns a list into CSV if the client prefers that.
    fn prefer_csv(&mut self, request: &HttpRequest) {
        let route = routes::find(request);
        let Some(route) =
            route.filter(|route| !route.columns.is_empty() && prefers(request, "text/csv"))
        else {
            return;
        };
        let page = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        if let Some(csv) = to_csv(route, &page) {
            self.next = page["next"]
                .as_str()
                .map(|cursor| next_page(request, cursor));
            self.body = csv.into();
            self.content_type = CSV.to_owned();
        }
    }

    fn response(self, request: &HttpRequest) -> HttpResponse {
        let digest = Sha256::digest(&self.body);
        let tag = EntityTag::new_strong(hex::encode(&digest[..TAG_BYTES]));
        let is_known = match request.get_header::<IfNoneMatch>() {
            Some(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(&tag)),
            Some(IfNoneMatch::Any) | None => false,
        };
        let mut response = HttpResponseBuilder::new(if is_known {
            StatusCode::NOT_MODIFIED
        } else {
            StatusCode::OK
        });
        response
            .insert_header((ETAG, tag.to_string()))
            .insert_header((CACHE_CONTROL, "private, no-cache"))
            .insert_header((VARY, "Accept, Authorization, Cookie"));
        if is_known {
            return response.finish();
        }
        if let Some(next) = &self.next {
            response.insert_header((LINK, format!("<?{next}>; rel=\"next\"")));
        }
        response.content_type(self.content_type).body(self.body)
    }
}

/// Returns true if the client names this media type before JSON and before any type.
pub(super) fn prefers(request: &HttpRequest, media_type: &str) -> bool {
    let Ok(accept) = Accept::parse(request) else {
        return false;
    };
    let ranked = accept.ranked();
    let served = [media_type, "application/json", "application/*", "*/*"];
    let first = ranked
        .iter()
        .find(|wanted| served.contains(&wanted.essence_str()));
    first.is_some_and(|first| first.essence_str() == media_type)
}

/// Returns the query of the page that begins at `cursor`.
fn next_page(request: &HttpRequest, cursor: &str) -> String {
    let query = form_urlencoded::parse(request.query_string().as_bytes());
    let mut next = form_urlencoded::Serializer::new(String::new());
    next.extend_pairs(query.filter(|(name, _)| name != "cursor"));
    next.append_pair("cursor", cursor);
    next.finish()
}

/// Returns a page as CSV with a line of names; none if it is no page.
fn to_csv(route: &DocumentedRoute, page: &Value) -> Option<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(&route.columns).ok()?;
    for item in page["items"].as_array()? {
        let cells = route.columns.iter().map(|column| {
            let parts = column.split('.');
            cell(parts.fold(item, |value, part| &value[part]))
        });
        csv.write_record(cells).ok()?;
    }
    csv.into_inner().ok()
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
    use actix_web::test::TestRequest;
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

    #[test]
    fn csv_is_sent_to_clients_that_name_it_first() {
        for (accept, expected) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/csv"), true),
            (Some("text/csv, */*;q=0.5"), true),
            (Some("text/csv;q=0.5, application/json"), false),
            (Some("text/html, text/csv;q=0.9, */*;q=0.8"), true),
            (Some("text/*"), false),
            (Some("nonsense"), false),
        ] {
            let request = TestRequest::default();
            let request = match accept {
                Some(accept) => request.insert_header(("Accept", accept)),
                None => request,
            };
            assert_eq!(
                prefers(&request.to_http_request(), "text/csv"),
                expected,
                "{accept:?}"
            );
        }
    }
}
