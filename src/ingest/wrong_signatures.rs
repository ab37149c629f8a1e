//! Requests without a valid signature: a line in the log once a minute for each reason, with the cause
//! that an operator has to look for.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use parking_lot::Mutex;

use crate::config::GITHUB_WEBHOOK_SECRET;
use crate::logging::MinuteLine;
use crate::telemetry::SIGNATURE_FAILURES;

/// The refused signatures since the last line, by reason.
#[derive(Debug, Default)]
pub(super) struct WrongSignatures(Mutex<BTreeMap<&'static str, MinuteLine>>);

impl WrongSignatures {
    /// Counts a refused request, and writes the line of its reason if one is due. Nothing in it was
    /// signed, so that no text of the request is part of the line but the number of a webhook.
    pub(super) fn log(&self, reason: &'static str, request: &HttpRequest) {
        let Some(requests) = self.0.lock().entry(reason).or_default().count() else {
            return;
        };
        let peer = request.peer_addr().map_or_else(
            || "an unknown address".to_owned(),
            |peer| peer.ip().to_string(),
        );
        let header = |name| request.headers().get(name)?.to_str().ok();
        let hook = header("x-github-hook-id").and_then(|id| id.parse::<u64>().ok());
        let of_hook = hook.map(|id| format!(", for webhook {id}"));
        let is_proxied = ["via", "x-forwarded-for", "forwarded"]
            .iter()
            .any(|name| request.headers().contains_key(*name));
        tracing::warn!(
            signature.reason = reason,
            requests,
            peer.address = peer,
            hook.id = hook,
            "{requests} webhook requests were refused with 401, the last one from {peer}{}: {}; \
             this is logged once a minute, and {SIGNATURE_FAILURES} counts them",
            of_hook.unwrap_or_default(),
            cause(reason, is_proxied)
        );
    }
}

/// Returns the likely cause of a refusal and the next step.
fn cause(reason: &str, is_proxied: bool) -> String {
    match reason {
        "missing" => format!(
            "there is no signature: enter the secret of {GITHUB_WEBHOOK_SECRET} in the webhook at \
             GitHub"
        ),
        "sha1_only" => "it is signed with SHA-1 only: update the sender, or let the proxy pass \
                        X-Hub-Signature-256"
            .to_owned(),
        "malformed" => "X-Hub-Signature-256 is not one `sha256=` with 64 hexadecimal digits: \
                        GitHub sends no such, look at a proxy that adds or changes headers"
            .to_owned(),
        _ if is_proxied => format!(
            "the webhook at GitHub has another secret than {GITHUB_WEBHOOK_SECRET}, or the proxy \
             in between changes the body, which has to pass byte for byte"
        ),
        _ => format!(
            "the webhook at GitHub has another secret than {GITHUB_WEBHOOK_SECRET}, or something \
             in between changes the body"
        ),
    }
}
