//! Leaks that are planted, each of which both kinds of tests find.

use tallyhook_store::PlantedLeak;

use super::differential::differences;
use super::generated::traces;
use super::world::TwoTeams;

/// Leaks are planted for the whole process, so that this runs in a process of its own:
/// `cargo nextest run --features planted-leaks --test it isolation::leaks`.
#[tokio::test]
async fn each_planted_leak_is_found_by_the_canary_and_by_the_difference() {
    let (quiet, busy) = (TwoTeams::start(false).await, TwoTeams::start(true).await);
    for leak in PlantedLeak::ALL {
        PlantedLeak::plant(Some(leak));
        let ((traces, ..), (different, _)) =
            (traces(&busy).await, differences(&quiet, &busy).await);
        PlantedLeak::plant(None);
        assert!(!traces.is_empty(), "no trace of {leak:?}");
        assert!(!different.is_empty(), "no difference by {leak:?}");
        println!(
            "{leak:?}: {} traces, {} differences",
            traces.len(),
            different.len()
        );
    }
    quiet.server.stop().await;
    busy.server.stop().await;
}
