//! How long a part is this process's.

use std::time::Duration;

use tokio::time::sleep;

use super::{Part, Store};

/// How often it is asked.
const TICK: Duration = Duration::from_secs(1);
/// So often in a row the database may leave open whether the part is ours.
const UNANSWERED: u32 = 3;

/// Ends once another process has a part that this one had, or the database did not answer for so long that another may
/// have it.
pub async fn lost(store: &dyn Store, part: Part) {
    let mut unanswered = 0;
    while unanswered < UNANSWERED {
        sleep(TICK).await;
        match store.lead(part).await {
            Ok(true) => unanswered = 0,
            Ok(false) => break,
            Err(_) => unanswered += 1,
        }
    }
}
