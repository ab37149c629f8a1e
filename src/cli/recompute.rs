//! `tallyhook recompute`

use std::collections::BTreeSet;

use chrono::Utc;

use super::{Outcome, output};
use crate::domain::people::Bots;
use crate::domain::timings::timings;
use crate::store::{PullRequestRecord, Recording, Store};

/// Pull requests of one transaction.
const PAGE: u32 = 200;

/// Works out every number again, beside a server that may be running.
pub(super) async fn run(store: &dyn Store, bots: &Bots) -> Outcome {
    let bar = output::progress(0, "recomputing");
    let (mut after, mut done) = (None, 0_u64);
    loop {
        let keys = store.keys_after(after, PAGE).await?;
        let Some(last) = keys.last() else { break };
        // A server that writes one of them in between makes this page begin again.
        loop {
            let pull_requests = store.load(&keys).await?.into_iter().map(|known| PullRequestRecord {
                timings: timings(&known.pull_request, bots),
                reviews: BTreeSet::new(),
                known,
            });
            let recording = Recording { pull_requests: pull_requests.collect(), ..Recording::default() };
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
