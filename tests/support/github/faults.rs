//! What can be wrong with GitHub's answers.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;

/// How one request is answered instead of rightly.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// With this.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Rightly: what is wrong comes later.
    None,
    /// Rightly, but so much later.
    Slow(Duration),
    /// The connection breaks in the midst of the body.
    Truncated,
}

impl Fault {
    pub(crate) fn status(status: u16) -> Self {
        Self::message(status, &[], "as the test wants it")
    }

    /// With an error in GitHub's shape.
    pub(crate) fn message(status: u16, headers: &[(&'static str, &str)], message: &str) -> Self {
        let body = serde_json::json!({"message": message, "documentation_url": "", "status": status.to_string()});
        Self::answer(status, headers, &body.to_string())
    }

    pub(crate) fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self::Answer { status, headers, body: body.to_owned() }
    }

    /// The answer itself, or `None` where the right one follows.
    pub(super) async fn response(self) -> Option<HttpResponse> {
        match self {
            Self::Answer { status, headers, body } => {
                let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
                response.content_type("application/json; charset=utf-8");
                for header in headers {
                    response.append_header(header);
                }
                Some(response.body(body))
            }
            Self::None => None,
            Self::Slow(pause) => {
                tokio::time::sleep(pause).await;
                None
            }
            Self::Truncated => {
                let broken = [Ok(Bytes::from_static(b"[{\"id\":")), Err(std::io::Error::other("broken off"))];
                Some(HttpResponse::Ok().streaming(futures_util::stream::iter(broken)))
            }
        }
    }
}
