//! An outage of GitHub: it is logged once, and ends with the first answer.

use tallyhook_github_client::Client;
use tokio::time::Instant;

/// The outage that a process knows of.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
}

/// The state of GitHub at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutageProgress {
    None,
    Lasts,
    /// GitHub answers again.
    Ended,
}

impl Outage {
    /// Looks at the circuit breaker. During an outage, probes GitHub as often as the breaker admits.
    pub(super) async fn watch(&mut self, client: &Client) -> OutageProgress {
        if self.since.is_some() {
            client.probe().await;
        }
        match (client.outage(), self.since) {
            (None, None) => OutageProgress::None,
            (Some(reason), None) => {
                self.since = Some(Instant::now());
                tracing::warn!(
                    reason,
                    "GitHub does not answer ({reason}): repositories are synced when it does, and \
                     it is probed until then"
                );
                OutageProgress::Lasts
            }
            (Some(_), Some(_)) => OutageProgress::Lasts,
            (None, Some(since)) => {
                self.since = None;
                let seconds = since.elapsed().as_secs();
                tracing::info!(
                    outage.duration_s = seconds,
                    "GitHub answers again after {seconds} s: all repositories are synced now"
                );
                OutageProgress::Ended
            }
        }
    }
}
