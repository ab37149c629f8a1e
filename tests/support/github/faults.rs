//! What can be wrong with GitHub's answers.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// How one request is answered instead of rightly.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// With this.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Rightly: what is wrong comes later.
    None,
    /// It is done as asked, and then the answer is this status.
    Lost(u16),
    /// Rightly, but so much later.
    Slow(Duration),
    /// The connection breaks in the midst of the body.
    Truncated,
    /// Each so many-th pull request of a GraphQL answer is null, with an error beside the data.
    Partial(usize),
}

/// Faults that come by chance, the same ones for the same seed and order of requests.
pub(super) struct Disturbance {
    random: StdRng,
    rate: f64,
    faults: Vec<Fault>,
    struck: u64,
}

impl Disturbance {
    pub(super) fn new(seed: u64, rate: f64, faults: Vec<Fault>) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            rate,
            faults,
            struck: 0,
        }
    }

    pub(super) fn next(&mut self) -> Option<Fault> {
        let strikes = self.random.random_bool(self.rate);
        self.struck += u64::from(strikes);
        self.faults
            .choose(&mut self.random)
            .filter(|_| strikes)
            .cloned()
    }

    /// How often they came.
    pub(super) fn struck(&self) -> u64 {
        self.struck
    }
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
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Self::Answer {
            status,
            headers,
            body: body.to_owned(),
        }
    }

    /// The answer itself, or `None` where the right one follows.
    pub(super) async fn response(self) -> Option<HttpResponse> {
        match self {
            Self::Answer {
                status,
                headers,
                body,
            } => {
                let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
                response.content_type("application/json; charset=utf-8");
                for header in headers {
                    response.append_header(header);
                }
                Some(response.body(body))
            }
            Self::None | Self::Partial(_) | Self::Lost(_) => None,
            Self::Slow(pause) => {
                tokio::time::sleep(pause).await;
                None
            }
            Self::Truncated => {
                let broken = [
                    Ok(Bytes::from_static(b"[{\"id\":")),
                    Err(std::io::Error::other("broken off")),
                ];
                Some(HttpResponse::Ok().streaming(futures_util::stream::iter(broken)))
            }
        }
    }
}
