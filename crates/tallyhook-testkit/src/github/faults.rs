//! Faults that a test can put in place of GitHub's responses.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// A fault of one response.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This response in place of the regular one.
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The regular response; a fault of a later request follows it.
    None,
    /// The request is processed, and then the response is this status.
    Lost(u16),
    /// The regular response, after a delay.
    Slow(Duration),
    /// The connection breaks in the middle of the body.
    Truncated,
    /// Every n-th pull request of a GraphQL answer is null, with an error beside the data.
    Partial(usize),
}

/// Random faults, which are the same for the same seed and order of requests.
pub(super) struct RandomFaults {
    random: StdRng,
    rate: f64,
    faults: Vec<Fault>,
    struck: u64,
}

impl RandomFaults {
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

    /// Returns the number of faults so far.
    pub(super) fn struck(&self) -> u64 {
        self.struck
    }
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Self::message(status, &[], "as the test wants it")
    }

    /// An error in GitHub's shape.
    pub fn message(status: u16, headers: &[(&'static str, &str)], message: &str) -> Self {
        let body = serde_json::json!({
            "message": message,
            "documentation_url": "",
            "status": status.to_string(),
        });
        Self::answer(status, headers, &body.to_string())
    }

    pub fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Self {
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

    /// Returns the response, or `None` if the regular one is to be sent.
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
