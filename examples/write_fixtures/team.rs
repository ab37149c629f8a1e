//! The people, bots and labels of the story. All of them are made up, but for the accounts of
//! GitHub's own AI.

use crate::chapter::full_time;
use testkit::payloads::{Account, Milestone, Pr, World};

pub(crate) struct Team {
    pub(crate) world: World,
    /// Maintains the server.
    pub(crate) mira: Account,
    pub(crate) tomas: Account,
    pub(crate) ines: Account,
    pub(crate) yuki: Account,
    /// Contributes from a fork.
    pub(crate) lena: Account,
    /// Keeps dependencies up to date.
    pub(crate) deps_bot: Account,
    /// Comments on style within seconds.
    pub(crate) lint_bot: Account,
    /// Merges what the queue has tested.
    pub(crate) queue_bot: Account,
    /// GitHub's coding agent, which opens drafts. Id and login are the real ones.
    pub(crate) copilot: Account,
    /// GitHub's reviewing AI, likewise.
    pub(crate) copilot_reviewer: Account,
    /// Stands in as sender for accounts that are gone.
    pub(crate) ghost: Account,
}

impl Team {
    pub(crate) fn new() -> Self {
        Self {
            world: World::acme(),
            mira: Account::user(900_000_101, "mira-acme"),
            tomas: Account::user(900_000_102, "tomas-acme"),
            ines: Account::user(900_000_103, "ines-acme"),
            yuki: Account::user(900_000_104, "yuki-acme"),
            lena: Account::contributor(900_000_205, "lena-elsewhere"),
            deps_bot: Account::bot(900_000_301, "acme-deps"),
            lint_bot: Account::bot(900_000_302, "acme-lint"),
            queue_bot: Account::bot(900_000_303, "acme-merge-queue"),
            copilot: Account {
                login: "Copilot".to_owned(),
                ..Account::bot(198_982_749, "copilot-swe-agent")
            },
            copilot_reviewer: Account::bot(175_728_472, "copilot-pull-request-reviewer"),
            ghost: Account::ghost(),
        }
    }

    /// A pull request opened ready; a chapter begins with it.
    pub(crate) fn pr(
        &self,
        number: i64,
        author: &Account,
        title: &str,
        branch: &str,
        at: &str,
    ) -> Pr {
        Pr::new(
            &self.world,
            number,
            Some(author),
            title,
            branch,
            &full_time(at),
        )
    }

    /// A pull request opened as a draft.
    pub(crate) fn draft(
        &self,
        number: i64,
        author: &Account,
        title: &str,
        branch: &str,
        at: &str,
    ) -> Pr {
        let mut pr = self.pr(number, author, title, branch, at);
        pr.draft = true;
        pr
    }

    pub(crate) fn milestone(&self) -> Milestone {
        Milestone {
            id: 12_000_001,
            number: 3,
            title: "Spring release".to_owned(),
            creator: self.mira.clone(),
            created_at: "2026-02-16T09:00:00Z".to_owned(),
        }
    }
}
