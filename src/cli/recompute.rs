//! `tallyhook recompute`

use std::collections::BTreeSet;

use chrono::Utc;
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::domain::task::Patterns;
use tallyhook_store::{BatchWrite, PullRequestRecord, Store};

use super::{CommandResult, output};

/// Pull requests of one transaction.
const PAGE: u32 = 200;

/// Computes every number and every mention of a task again, beside a server that may be running.
pub(super) async fn run(store: &Store, rules: &NumberRules, patterns: &Patterns) -> CommandResult {
    let bar = output::progress(0, "recomputing");
    let (mut after, mut done) = (None, 0_u64);
    loop {
        let keys = store.keys_after(after, PAGE).await?;
        let Some(last) = keys.last() else { break };
        // If a server writes one of them in between, this page is read and computed again.
        loop {
            let pull_requests =
                store
                    .load(&keys)
                    .await?
                    .into_iter()
                    .map(|known| PullRequestRecord {
                        numbers: numbers(&known.pull_request, known.repo_name(), rules),
                        reviews: BTreeSet::new(),
                        known,
                    });
            let pull_requests: Vec<_> = pull_requests.collect();
            let named = |record: &PullRequestRecord| {
                let pull_request = &record.known.pull_request;
                (
                    pull_request.key,
                    patterns.named_by(pull_request, &rules.bots),
                )
            };
            let mentions = pull_requests.iter().map(named).collect();
            let recording = BatchWrite {
                pull_requests,
                mentions,
                ..BatchWrite::default()
            };
            if store.record(&recording, Utc::now()).await?.is_ok() {
                break;
            }
        }
        after = Some(*last);
        done += keys.len() as u64;
        bar.set_length(done);
        bar.set_position(done);
    }
    bar.finish_and_clear();
    store.close().await;
    output::line(&format!("{done} pull requests"))
}
