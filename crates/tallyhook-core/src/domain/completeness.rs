//! How much is there of a repository, what is missing and why: never more than can be vouched for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::repository::Access;
use crate::github::types::{PrNumber, Timestamp};

/// How many pull requests that failed are told one by one.
const TOLD: usize = 20;

/// What it follows from.
#[derive(Clone, Debug)]
pub struct Coverage<'a> {
    pub tracked_since: Timestamp,
    /// Every pull request that was updated since then was fetched once.
    pub complete_since: Option<Timestamp>,
    pub access: Access,
    /// Whether there is anything to ask GitHub with.
    pub may_ask: bool,
    /// Why asking failed last, unless it went well since.
    pub error: Option<&'a str>,
    /// Unless none was asked for.
    pub backfill: Option<Backfill<'a>>,
}

/// What its backfills came to.
#[derive(Clone, Debug)]
pub struct Backfill<'a> {
    /// Of the last one.
    pub end: End<'a>,
    /// At how many pull requests the one stopped that went back furthest, though there are more.
    pub cut_at: Option<u32>,
    /// Those that could not be fetched, and why.
    pub failed: Vec<(PrNumber, &'a str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    NotYet,
    Done,
    Failed(&'a str),
    Cancelled,
}

/// Since when everything is there, but for what is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Completeness {
    /// Every pull request that was updated since then.
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    pub missing: Vec<Missing>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    #[schema(example = "#123")]
    pub what: String,
    pub why: String,
}

fn missing(what: impl Into<String>, why: impl Into<String>) -> Missing {
    Missing {
        what: what.into(),
        why: why.into(),
    }
}

pub fn completeness(coverage: &Coverage<'_>) -> Completeness {
    let since = coverage.complete_since.unwrap_or(coverage.tracked_since);
    let mut all = Vec::new();
    match coverage.access {
        Access::Granted => {}
        Access::Revoked => all.push(missing(
            "what changed since access was lost",
            "GitHub does not show it to us any more",
        )),
        Access::Deleted => all.push(missing(
            "what changed since it was deleted",
            "it was deleted at GitHub",
        )),
    }
    if !coverage.may_ask {
        let why = "GitHub is asked for nothing: set GITHUB_TOKEN, or GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY";
        all.push(missing("what webhooks did not tell", why));
    }
    if let Some(error) = coverage.error {
        all.push(missing(
            "what webhooks did not tell since it was last synced",
            error,
        ));
    }
    if coverage.complete_since.is_none() {
        let why = match coverage.backfill.as_ref().map(|backfill| backfill.end) {
            None => "no backfill was asked for".to_owned(),
            Some(End::NotYet) => "the backfill is not done yet".to_owned(),
            Some(End::Failed(error)) => format!("the backfill failed: {error}"),
            Some(End::Cancelled) => "the backfill was cancelled".to_owned(),
            Some(End::Done) => "the backfill found none".to_owned(),
        };
        all.push(missing("what happened before it was tracked", why));
    }
    if let Some(Backfill { cut_at, failed, .. }) = &coverage.backfill {
        if let Some(most) = cut_at {
            let why = format!("the backfill stopped after {most} of them, as it was told");
            all.push(missing(
                format!("pull requests that were last updated before {since}"),
                why,
            ));
        }
        all.extend(
            failed
                .iter()
                .take(TOLD)
                .map(|(number, why)| missing(format!("#{number}"), *why)),
        );
        if failed.len() > TOLD {
            let what = format!("{} more pull requests", failed.len() - TOLD);
            all.push(missing(what, "the errors of the backfill tell why"));
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
        let backfill = Backfill {
            end: End::Done,
            cut_at: None,
            failed: Vec::new(),
        };
        Coverage {
            tracked_since: at(100),
            complete_since: Some(at(50)),
            access: Access::Granted,
            may_ask: true,
            error: None,
            backfill: Some(backfill),
        }
    }

    fn told(coverage: &Coverage<'_>) -> Vec<(String, String)> {
        let told = completeness(coverage).missing.into_iter();
        told.map(|Missing { what, why }| (what, why)).collect()
    }

    #[test]
    fn of_a_repository_that_is_whole_nothing_is_missing() {
        assert_eq!(
            completeness(&whole()),
            Completeness {
                since: at(50),
                missing: Vec::new()
            }
        );
    }

    #[test]
    fn before_a_backfill_only_what_webhooks_told_is_there() {
        for (backfill, why) in [
            (None, "no backfill was asked for"),
            (Some(End::NotYet), "the backfill is not done yet"),
            (
                Some(End::Failed("the token is revoked")),
                "the backfill failed: the token is revoked",
            ),
            (Some(End::Cancelled), "the backfill was cancelled"),
        ] {
            let backfill = backfill.map(|end| Backfill {
                end,
                cut_at: None,
                failed: Vec::new(),
            });
            let coverage = Coverage {
                complete_since: None,
                backfill,
                ..whole()
            };
            assert_eq!(completeness(&coverage).since, at(100));
            assert_eq!(
                told(&coverage),
                [(
                    "what happened before it was tracked".to_owned(),
                    why.to_owned()
                )]
            );
        }
    }

    #[test]
    fn what_a_backfill_left_out_is_named() {
        let failed = (1..=23)
            .map(|number| (PrNumber(number), "it is too large"))
            .collect();
        let backfill = Backfill {
            end: End::Done,
            cut_at: Some(1000),
            failed,
        };
        let told = told(&Coverage {
            backfill: Some(backfill),
            ..whole()
        });
        assert_eq!(told.len(), 1 + 20 + 1);
        assert_eq!(
            told[0].0,
            "pull requests that were last updated before 1970-01-01T00:00:50Z"
        );
        assert!(told[0].1.contains("1000"));
        assert_eq!(told[20], ("#20".to_owned(), "it is too large".to_owned()));
        assert_eq!(told[21].0, "3 more pull requests");
    }

    #[test]
    fn whatever_keeps_github_from_telling_is_named() {
        for (coverage, words) in [
            (
                Coverage {
                    access: Access::Revoked,
                    ..whole()
                },
                "access was lost",
            ),
            (
                Coverage {
                    access: Access::Deleted,
                    ..whole()
                },
                "deleted",
            ),
            (
                Coverage {
                    may_ask: false,
                    ..whole()
                },
                "webhooks did not tell",
            ),
            (
                Coverage {
                    error: Some("GitHub is down"),
                    ..whole()
                },
                "since it was last synced",
            ),
        ] {
            let told = told(&coverage);
            assert!(told.len() == 1 && told[0].0.contains(words), "{told:?}");
        }
        assert!(
            told(&Coverage {
                may_ask: false,
                ..whole()
            })[0]
                .1
                .contains("GITHUB_TOKEN")
        );
    }
}
