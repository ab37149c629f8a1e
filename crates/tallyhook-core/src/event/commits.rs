//! Conversion of the commits of GitHub's answers.

use std::collections::BTreeSet;

use super::fetched::{account, whole};
use super::{CommitDates, FIRST_COMMIT_EVER, Fact, FactKind, FetchedCommit};
use crate::github::graphql::{GitActor, GraphqlCommit, PullRequestCommit};
use crate::github::types::{Account, AccountId, AccountKind};

/// The end of the addresses that GitHub gives to accounts: `ID+login@users.noreply.github.com`.
const NO_REPLY: &str = "@users.noreply.github.com";

/// The most commits that are listed, the newest. GitHub lists no more on the pages of its REST API.
pub(super) const LISTED: usize = 250;

/// Returns the commits of a list, each once: a forced push between two pages moves some of them.
/// `None` if GitHub left out one, which may have been the first.
pub(super) fn listed(nodes: Option<Vec<Option<PullRequestCommit>>>) -> Option<Vec<FetchedCommit>> {
    let commits = whole(nodes).ok()?.into_iter();
    let commits = commits.map(|PullRequestCommit { commit }| FetchedCommit {
        author: author(commit.author.as_ref()),
        authored_at: commit.authored_date,
        committed_at: commit.committed_date,
        co_authors: commit.message.as_deref().map_or_else(Vec::new, co_authors),
        sha: commit.oid,
    });
    let mut seen = BTreeSet::new();
    let commits = commits.filter(|commit| seen.insert(commit.sha.clone()));
    Some(commits.collect())
}

pub(super) fn dates(commits: &[FetchedCommit]) -> CommitDates {
    let mut dates = CommitDates::default();
    for commit in commits {
        let CommitDates {
            first_authored,
            last_authored,
            first_committed,
            last_committed,
            prehistoric,
            ..
        } = &mut dates;
        for (at, first, last) in [
            (commit.authored_at, first_authored, last_authored),
            (commit.committed_at, first_committed, last_committed),
        ] {
            match at.filter(|at| *at >= FIRST_COMMIT_EVER) {
                Some(at) => *first = Some(first.map_or(at, |first| first.min(at))),
                None => *prehistoric = true,
            }
            *last = (*last).max(at);
        }
    }
    let firsts = [dates.first_authored, dates.first_committed];
    dates.first = firsts.into_iter().flatten().min();
    dates.last = dates.last_authored.max(dates.last_committed);
    dates
}

/// Returns the fact that a pull request has a commit.
pub(super) fn fact(commit: GraphqlCommit) -> Option<Fact> {
    Some(Fact {
        at: commit.committed_date?,
        kind: FactKind::Committed,
        subject: None,
        subject_kind: None,
        actor: author(commit.author.as_ref()),
        detail: Some(commit.oid),
    })
}

/// Returns the account of a commit's author. GitHub shows no account of a bot, whose address has it.
fn author(author: Option<&GitActor>) -> Option<Account> {
    let GitActor { email, user } = author?;
    match user {
        Some(user) => Some(account(Some(user))),
        None => account_of_address(email.as_deref()?),
    }
}

fn account_of_address(address: &str) -> Option<Account> {
    let (id, login) = address.strip_suffix(NO_REPLY)?.split_once('+')?;
    Some(Account {
        id: AccountId(id.parse().ok()?),
        kind: match login.ends_with("[bot]") {
            true => AccountKind::Bot,
            false => AccountKind::User,
        },
        login: login.to_owned(),
    })
}

/// Returns the addresses of the `Co-authored-by` trailers of a commit's message, in lower case.
fn co_authors(message: &str) -> Vec<String> {
    const TRAILER: &str = "co-authored-by:";
    let lines = message.lines().map(str::to_lowercase);
    let named = lines.filter_map(|line| {
        let (_, address) = line.trim().strip_prefix(TRAILER)?.rsplit_once('<')?;
        let address = address.strip_suffix('>')?.trim();
        (!address.is_empty()).then(|| address.to_owned())
    });
    let mut named: Vec<_> = named.collect();
    named.sort_unstable();
    named.dedup();
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::types::Timestamp;

    #[test]
    fn only_addresses_of_trailers_are_kept_of_a_message() {
        let message = "Fix the door\n\nco-authored-by is no trailer here <a@example.com>\n\n\
                       Co-Authored-By: Claude <noreply@Anthropic.com>\r\n\
                       Co-authored-by: Bob Example <bob@example.com>\n\
                       Co-authored-by: Bob Example <bob@example.com>\n\
                       Co-authored-by: nobody\nSigned-off-by: C <c@example.com>";
        assert_eq!(
            co_authors(message),
            ["bob@example.com", "noreply@anthropic.com"]
        );
    }

    #[test]
    fn author_without_account_is_identified_by_github_s_own_address_alone() {
        for (address, expected) in [
            (
                "49699333+dependabot[bot]@users.noreply.github.com",
                Some((49_699_333, "dependabot[bot]", AccountKind::Bot)),
            ),
            (
                "7+ines@users.noreply.github.com",
                Some((7, "ines", AccountKind::User)),
            ),
            ("ines@users.noreply.github.com", None),
            ("7+ines@example.com", None),
            ("x+ines@users.noreply.github.com", None),
        ] {
            let found = account_of_address(address);
            let found = found
                .as_ref()
                .map(|account| (account.id.0, account.login.as_str(), account.kind));
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn commit_on_two_pages_is_listed_once() {
        let commit = |oid: &str| {
            let commit = serde_json::json!({"commit": {
                "oid": oid, "committedDate": "2026-03-02T10:00:00Z"
            }});
            Some(serde_json::from_value(commit).unwrap())
        };
        let nodes = ["b", "a", "b"].map(commit).into();
        let listed = listed(Some(nodes)).unwrap();
        let shas: Vec<_> = listed.iter().map(|commit| commit.sha.as_str()).collect();
        assert_eq!(shas, ["b", "a"]);
    }

    #[test]
    fn author_and_committer_dates_are_apart() {
        let at = |days: i64| Some(Timestamp::clamped(FIRST_COMMIT_EVER.epoch() + days));
        let commit = |authored_at, committed_at| FetchedCommit {
            sha: "a".to_owned(),
            author: None,
            authored_at,
            committed_at,
            co_authors: Vec::new(),
        };
        let found = dates(&[
            commit(at(5), at(9)),
            commit(at(-1), at(7)),
            commit(at(8), None),
        ]);
        let expected = CommitDates {
            first: at(5),
            last: at(9),
            prehistoric: true,
            first_authored: at(5),
            last_authored: at(8),
            first_committed: at(7),
            last_committed: at(9),
        };
        assert_eq!(found, expected);
    }
}
