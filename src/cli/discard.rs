//! `tallyhook dead discard`

use chrono::Utc;
use clap::Args;
use tallyhook_core::delivery::DeliveryId;
use tallyhook_store::{DeadLetterMatch, DeadLetterSelection, Store};

use super::confirmation::Confirmation;
use super::{CommandResult, inbox, output};

#[derive(Debug, Args)]
pub(super) struct DiscardArgs {
    /// The ids of `dead list`
    #[arg(
        required_unless_present_any = ["dead_reason", "event", "repo", "all"],
        conflicts_with_all = ["dead_reason", "event", "repo", "all"]
    )]
    ids: Vec<i64>,
    /// The reason for which they are discarded; kept with each delivery
    #[arg(long)]
    reason: String,
    /// Those that are dead for this reason, as in `dead list`
    #[arg(long, value_name = "REASON")]
    dead_reason: Option<String>,
    /// Those of this event, such as `pull_request`
    #[arg(long)]
    event: Option<String>,
    /// Those of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// All dead letters
    #[arg(long, conflicts_with_all = ["dead_reason", "event", "repo"])]
    all: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

impl DiscardArgs {
    pub(super) async fn run(self, store: &Store) -> CommandResult {
        let Self {
            mut ids,
            reason,
            dead_reason,
            event,
            repo,
            all,
            confirmation,
        } = self;
        // One that is given twice is one dead letter.
        ids.sort_unstable();
        ids.dedup();
        let (selection, number) = if ids.is_empty() {
            let like = DeadLetterMatch {
                reason: dead_reason,
                event,
                repo,
            };
            let groups = store.dead_groups().await?;
            let number: u64 = groups
                .iter()
                .filter(|group| like.matches(group))
                .map(|group| group.deliveries)
                .sum();
            match number {
                0 if all => return output::line("discarded 0"),
                0 => return Err(inbox::none_matches(&like)),
                _ => {}
            }
            (DeadLetterSelection::Like(like), number)
        } else {
            let selected = ids.iter().copied().map(DeliveryId).collect();
            (DeadLetterSelection::Ids(selected), ids.len() as u64)
        };
        let letters = if number == 1 { "letter" } else { "letters" };
        confirmation.obtain(&format!("discard {number} dead {letters}"))?;
        let reason = format!("discarded: {reason}");
        let discarded = store.discard(&selection, &reason, Utc::now()).await?;
        output::line(&format!("discarded {discarded}"))?;
        inbox::all_were_dead(&ids, discarded)
    }
}
