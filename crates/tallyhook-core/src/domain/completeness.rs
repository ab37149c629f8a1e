//! The completeness of a repository's history: the parts that may be missing, with the reasons.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::repository::RepositoryAccess;
use crate::github::types::{PrNumber, Timestamp};

/// The number of failed pull requests that are listed one by one.
const MAX_LISTED: usize = 20;

/// The state of a repository that its completeness follows from.
#[derive(Clone, Debug)]
pub struct Coverage<'a> {
    pub tracked_since: Timestamp,
    /// The time since which every updated pull request was fetched once.
    pub complete_since: Option<Timestamp>,
    pub access: RepositoryAccess,
    /// False if only webhooks show it.
    pub is_tracked: bool,
    /// True if there are credentials for GitHub.
    pub may_ask: bool,
    /// The error of the last sync, unless a later one succeeded.
    pub error: Option<&'a str>,
    /// `None` if none was requested.
    pub backfill: Option<BackfillCoverage<'a>>,
}

/// The result of a repository's backfills.
#[derive(Clone, Debug)]
pub struct BackfillCoverage<'a> {
    /// The end of the last one.
    pub end: BackfillEnd<'a>,
    /// The number of pull requests at which the backfill that went back furthest stopped, although there are more.
    pub cut_at: Option<u32>,
    /// Pull requests that could not be fetched, with the reasons.
    pub failed: Vec<(PrNumber, &'a str)>,
    /// The facts that GitHub withheld from the last one, with the reasons.
    pub withheld: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackfillEnd<'a> {
    NotYet,
    Done,
    Failed(&'a str),
    Cancelled,
}

/// The time since which the history is complete, but for the missing parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Completeness {
    /// Every pull request that was updated since then is there.
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    pub missing: Vec<MissingPart>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Missing)]
pub struct MissingPart {
    #[schema(example = "#123")]
    pub what: String,
    pub why: String,
}

fn missing(what: impl Into<String>, why: impl Into<String>) -> MissingPart {
    MissingPart {
        what: what.into(),
        why: why.into(),
    }
}

/// Returns the missing parts of a repository's history.
pub fn completeness(coverage: &Coverage<'_>) -> Completeness {
    let since = coverage.complete_since.unwrap_or(coverage.tracked_since);
    let mut all = Vec::new();
    match coverage.access {
        RepositoryAccess::Granted => {}
        RepositoryAccess::Revoked => all.push(missing(
            "what changed since access was lost",
            "GitHub does not show it to us any more",
        )),
        RepositoryAccess::Deleted => all.push(missing(
            "what changed since it was deleted",
            "it was deleted at GitHub",
        )),
    }
    if !coverage.is_tracked {
        let why = "it is not tracked, although webhooks of it arrive: POST /api/repos tracks it";
        all.push(missing(
            "what webhooks do not report, and notifications",
            why,
        ));
    } else if !coverage.may_ask {
        let why = "GitHub is asked for nothing: set GITHUB_TOKEN, or GITHUB_APP_ID and \
                   GITHUB_APP_PRIVATE_KEY";
        all.push(missing("what webhooks did not report", why));
    }
    if let Some(error) = coverage.error {
        all.push(missing(
            "what webhooks did not report since it was last synced",
            error,
        ));
    }
    if coverage.complete_since.is_none() {
        let why = match coverage.backfill.as_ref().map(|backfill| backfill.end) {
            None => "no backfill was asked for".to_owned(),
            Some(BackfillEnd::NotYet) => "the backfill is not done yet".to_owned(),
            Some(BackfillEnd::Failed(error)) => format!("the backfill failed: {error}"),
            Some(BackfillEnd::Cancelled) => "the backfill was cancelled".to_owned(),
            Some(BackfillEnd::Done) => "the backfill found none".to_owned(),
        };
        all.push(missing("what happened before it was tracked", why));
    }
    if let Some(BackfillCoverage {
        cut_at,
        failed,
        withheld,
        ..
    }) = &coverage.backfill
    {
        all.extend(withheld.map(|why| missing("facts that GitHub withholds", why)));
        if let Some(most) = cut_at {
            let why = format!("the backfill stopped after {most} of them, its limit");
            all.push(missing(
                format!("pull requests that were last updated before {since}"),
                why,
            ));
        }
        all.extend(
            failed
                .iter()
                .take(MAX_LISTED)
                .map(|(number, why)| missing(format!("#{number}"), *why)),
        );
        if failed.len() > MAX_LISTED {
            let what = format!("{} more pull requests", failed.len() - MAX_LISTED);
            all.push(missing(what, "the errors of the backfill say why"));
        }
    }
    Completeness {
        since,
        missing: all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::clamped(seconds)
    }

    /// One of which everything is there since 50.
    fn whole() -> Coverage<'static> {
        let backfill = BackfillCoverage {
            end: BackfillEnd::Done,
            cut_at: None,
            failed: Vec::new(),
            withheld: None,
        };
        Coverage {
            tracked_since: at(100),
            complete_since: Some(at(50)),
            access: RepositoryAccess::Granted,
            is_tracked: true,
            may_ask: true,
            error: None,
            backfill: Some(backfill),
        }
    }

    fn missing_parts(coverage: &Coverage<'_>) -> Vec<(String, String)> {
        let missing_parts = completeness(coverage).missing.into_iter();
        missing_parts
            .map(|MissingPart { what, why }| (what, why))
            .collect()
    }

    #[test]
    fn complete_repository_lacks_nothing() {
        assert_eq!(
            completeness(&whole()),
            Completeness {
                since: at(50),
                missing: Vec::new()
            }
        );
    }

    #[test]
    fn without_backfill_history_starts_at_tracking() {
        for (backfill, why) in [
            (None, "no backfill was asked for"),
            (Some(BackfillEnd::NotYet), "the backfill is not done yet"),
            (
                Some(BackfillEnd::Failed("the token is revoked")),
                "the backfill failed: the token is revoked",
            ),
            (Some(BackfillEnd::Cancelled), "the backfill was cancelled"),
        ] {
            let backfill = backfill.map(|end| BackfillCoverage {
                end,
                cut_at: None,
                failed: Vec::new(),
                withheld: None,
            });
            let coverage = Coverage {
                complete_since: None,
                backfill,
                ..whole()
            };
            assert_eq!(completeness(&coverage).since, at(100));
            assert_eq!(
                missing_parts(&coverage),
                [(
                    "what happened before it was tracked".to_owned(),
                    why.to_owned()
                )]
            );
        }
    }

    #[test]
    fn parts_that_a_backfill_left_out_are_listed() {
        let failed = (1..=23)
            .map(|number| (PrNumber(number), "it is too large"))
            .collect();
        let backfill = BackfillCoverage {
            end: BackfillEnd::Done,
            cut_at: Some(1000),
            failed,
            withheld: None,
        };
        let missing_parts = missing_parts(&Coverage {
            backfill: Some(backfill),
            ..whole()
        });
        assert_eq!(missing_parts.len(), 1 + 20 + 1);
        assert_eq!(
            missing_parts[0].0,
            "pull requests that were last updated before 1970-01-01T00:00:50Z"
        );
        assert!(missing_parts[0].1.contains("1000"));
        assert_eq!(
            missing_parts[20],
            ("#20".to_owned(), "it is too large".to_owned())
        );
        assert_eq!(missing_parts[21].0, "3 more pull requests");
    }

    #[test]
    fn each_obstacle_to_syncing_is_listed() {
        for (coverage, words) in [
            (
                Coverage {
                    access: RepositoryAccess::Revoked,
                    ..whole()
                },
                "access was lost",
            ),
            (
                Coverage {
                    access: RepositoryAccess::Deleted,
                    ..whole()
                },
                "deleted",
            ),
            (
                Coverage {
                    may_ask: false,
                    ..whole()
                },
                "webhooks did not report",
            ),
            (
                Coverage {
                    error: Some("GitHub is down"),
                    ..whole()
                },
                "since it was last synced",
            ),
        ] {
            let missing_parts = missing_parts(&coverage);
            assert!(
                missing_parts.len() == 1 && missing_parts[0].0.contains(words),
                "{missing_parts:?}"
            );
        }
        assert!(
            missing_parts(&Coverage {
                may_ask: false,
                ..whole()
            })[0]
                .1
                .contains("GITHUB_TOKEN")
        );
    }
}
