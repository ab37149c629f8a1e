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

use super::{csv_list, routes};

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
        if let Some(csv) = csv_list::of_page(&route.columns, &page) {
            self.next = page["next"]
                .as_str()
                .map(|cursor| next_page(request, cursor));
            self.body = csv.into();
            self.content_type = csv_list::CSV.to_owned();
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

/// Returns true for a browser that is to show the answer.
pub(crate) fn prefers_html(request: &HttpRequest) -> bool {
    prefers(request, "text/html")
}

/// Returns true if the client names this media type before JSON and before any type.
fn prefers(request: &HttpRequest, media_type: &str) -> bool {
    Accept::parse(request).is_ok_and(|accept| names_first(&accept, media_type))
}

/// Returns true if `accept` names this media type before JSON and before any type.
pub(crate) fn names_first(accept: &Accept, media_type: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

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
