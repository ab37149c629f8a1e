//! `tallyhook recompute`

use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::task::Patterns;
use tallyhook_store::Store;

use super::{CommandResult, output};
use crate::renumbering::{PAGE, write_again};

/// Computes every number and every mention of a task again, beside a server that may be running.
pub(super) async fn run(store: &Store, rules: &NumberRules, patterns: &Patterns) -> CommandResult {
    let bar = output::progress(0, "recomputing");
    let (mut after, mut done) = (None, 0_u64);
    loop {
        let keys = store.keys_after(after, PAGE).await?;
        let Some(last) = keys.last() else { break };
        write_again(store, &keys, rules, Some(patterns)).await?;
        after = Some(*last);
        done += keys.len() as u64;
        bar.set_length(done);
        bar.set_position(done);
    }
    bar.finish_and_clear();
    store.close().await;
    output::line(&format!("{done} pull requests"))
}
