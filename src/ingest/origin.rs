//! The GitHub that a delivery is of. An installation takes the deliveries of one: numeric ids are
//! unique within a GitHub alone, and those of a second one would overwrite the first one's facts.

use std::sync::{Once, OnceLock};

use actix_web::http::header::HeaderMap;
use tallyhook_core::github::host::GithubHost;
use tallyhook_store::Store;

use super::WebhookRefusal;
use crate::telemetry::REQUESTS_REFUSED;

type Checked = Result<(), WebhookRefusal>;

/// Prefixes of the headers of programs that send GitHub's headers besides their own.
const IMITATORS: [(&str, &str); 3] = [
    ("x-forgejo-", "Forgejo"),
    ("x-gitea-", "Gitea"),
    ("x-gogs-", "Gogs"),
];

/// The GitHub of this installation: that of the settings or of the first delivery.
pub(super) struct InstallationHost {
    known: OnceLock<GithubHost>,
    /// The first refusal of a process is logged, and all are counted.
    refused: Once,
}

impl InstallationHost {
    pub(super) fn new(known: Option<GithubHost>) -> Self {
        Self {
            known: known.map_or_else(OnceLock::new, OnceLock::from),
            refused: Once::new(),
        }
    }

    fn refuse(&self, why: String) -> Checked {
        self.refused.call_once(|| {
            tracing::warn!(
                "a delivery was refused, and those like it will be: {why}; {REQUESTS_REFUSED} \
                 counts them"
            );
        });
        Err(WebhookRefusal::OtherHost(why))
    }

    /// Refuses a delivery that is of another GitHub.
    ///
    /// # Errors
    /// [`WebhookRefusal::OtherHost`].
    pub(super) fn check(&self, host: Option<&GithubHost>) -> Checked {
        match (self.known.get(), host) {
            (Some(known), Some(host)) if known != host => self.refuse(format!(
                "this delivery is of {host}, and this installation takes those of {known}, the \
                 host of GITHUB_API_URL or of its first delivery: run another Tallyhook for {host}"
            )),
            _ => Ok(()),
        }
    }

    /// Returns true as long as no delivery has shown the GitHub.
    pub(super) fn is_open(&self) -> bool {
        self.known.get().is_none()
    }

    /// Makes `host` the GitHub of this installation, for all of its processes. Later
    /// deliveries are compared with it.
    ///
    /// # Errors
    /// [`WebhookRefusal::OtherHost`] if another process was first, or
    /// [`WebhookRefusal::Unavailable`].
    pub(super) async fn adopt(&self, host: &GithubHost, store: &Store) -> Checked {
        let adopted = store.adopt_github_host(host).await;
        let adopted = adopted.map_err(|_| WebhookRefusal::Unavailable)?;
        self.known.get_or_init(|| adopted);
        self.check(Some(host))
    }
}

/// The sender of a delivery, as its headers name it.
pub(super) struct DeliveryOrigin {
    /// The Enterprise Server or the tenant of GHE.com; github.com sends no such header.
    pub(super) host: Option<GithubHost>,
    imitator: Option<&'static str>,
}

impl DeliveryOrigin {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let host = headers.get("x-github-enterprise-host");
        let sends = |prefix: &str| headers.keys().any(|name| name.as_str().starts_with(prefix));
        let imitator = IMITATORS.iter().find(|(prefix, _)| sends(prefix));
        Self {
            host: host
                .and_then(|host| host.to_str().ok())
                .and_then(GithubHost::parse),
            imitator: imitator.map(|(_, name)| *name),
        }
    }

    /// Refuses a delivery that is not of the GitHub of this installation.
    ///
    /// # Errors
    /// [`WebhookRefusal::OtherHost`].
    pub(super) fn check(&self, installation: &InstallationHost) -> Checked {
        match self.imitator {
            Some(name) => installation.refuse(format!(
                "this delivery is of {name}, and Tallyhook takes those of GitHub: remove the \
                 webhook there"
            )),
            None => installation.check(self.host.as_ref()),
        }
    }
}
