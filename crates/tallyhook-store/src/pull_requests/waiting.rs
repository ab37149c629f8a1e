//! Totals of what open pull requests wait for, and on whom.

use std::collections::BTreeMap;

use sqlx::FromRow;
use tallyhook_core::domain::metrics::AuthorFilter;
use tallyhook_core::domain::waiting::WaitingFor;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};

use super::aggregate_rows::by_authors;
use super::conditions::{IS_HELD, push_parties};
use super::row::HELD_BY_RULE;
use crate::columns::{Name, Seconds};
use crate::database::{Database, StatementBuilder};
use crate::planted_leaks::PlantedLeak;
use crate::team_store::TeamScope;
use crate::{Result, Store, TeamStore};

const DAY: i64 = 86_400;
/// The most people and teams that are listed, those that most wait for.
const PARTIES: u32 = 100;

/// A filter of open pull requests.
#[derive(Clone, Debug, Default)]
pub struct WaitingFilter {
    pub repo: Option<RepoId>,
    /// The slug of a team on GitHub that is waited for.
    pub github_team: Option<String>,
    /// All authors if it is `None`.
    pub authors: Option<AuthorFilter>,
    /// People are listed beside teams.
    pub people: bool,
}

/// The open pull requests that wait for one kind by one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingGroup {
    pub on: WaitingFor,
    pub rule: u8,
    /// A person has reviewed them.
    pub reviewed: bool,
    pub n: u64,
    /// Waiting for less than one day, for one to three, for three to seven, for more.
    pub by_days: [u64; 4],
    /// The one that waits longest.
    pub longest: PrKey,
    pub longest_since: Timestamp,
}

/// A person or team that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingPartyTotal {
    pub is_team: bool,
    pub name: String,
    pub n: u64,
    pub longest_since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingTotals {
    pub groups: Vec<WaitingGroup>,
    pub parties: Vec<WaitingPartyTotal>,
    /// Open pull requests of the filter, without `github_team`, of which it is not known, or not
    /// computed yet, what they wait for.
    pub unknown: u64,
    /// The names of repositories, by id, of the longest waits.
    pub repositories: BTreeMap<RepoId, String>,
}

#[derive(FromRow)]
struct GroupRow {
    waiting_for: Name<WaitingFor>,
    rule: i64,
    reviewed: bool,
    n: i64,
    under_1d: i64,
    under_3d: i64,
    under_7d: i64,
    since: Seconds,
    repo_id: i64,
    number: i64,
    repo: String,
}

#[derive(FromRow)]
struct PartyRow {
    kind: String,
    name: String,
    n: i64,
    since: Seconds,
}

impl TeamStore {
    /// Totals of what open pull requests wait for at `now`, which decides about the spans.
    pub async fn waiting_totals(
        &self,
        filter: &WaitingFilter,
        now: Timestamp,
    ) -> Result<WaitingTotals> {
        totals(&self.database, self.plain_scope(), filter, now).await
    }
}

impl Store {
    /// The same over the repositories of all teams, and of none.
    pub async fn waiting_totals(
        &self,
        filter: &WaitingFilter,
        now: Timestamp,
    ) -> Result<WaitingTotals> {
        let scope = TeamScope::everything(self.database.is_sqlite());
        totals(&self.database, scope, filter, now).await
    }
}

async fn totals(
    database: &Database,
    scope: TeamScope,
    filter: &WaitingFilter,
    now: Timestamp,
) -> Result<WaitingTotals> {
    let groups: Vec<GroupRow> = database.rows(groups(filter, now, scope).build()).await?;
    let parties: Vec<PartyRow> = database.rows(parties(filter, scope).build()).await?;
    let unknown: Option<(i64,)> = database.row(unknown(filter, scope).build()).await?;
    let repositories = groups
        .iter()
        .map(|row| (RepoId(row.repo_id), row.repo.clone()))
        .collect();
    let party = |row: PartyRow| WaitingPartyTotal {
        is_team: row.kind == "team",
        name: row.name,
        n: row.n.unsigned_abs(),
        longest_since: row.since.0,
    };
    Ok(WaitingTotals {
        groups: groups.into_iter().map(WaitingGroup::from).collect(),
        parties: parties.into_iter().map(party).collect(),
        unknown: unknown.map_or(0, |(unknown,)| unknown.unsigned_abs()),
        repositories,
    })
}

impl WaitingGroup {
    /// Adds another group.
    pub fn join(&mut self, other: &Self) {
        self.n += other.n;
        for (mine, others) in self.by_days.iter_mut().zip(other.by_days) {
            *mine += others;
        }
        let wait = |group: &Self| (group.longest_since, group.longest);
        if wait(other) < wait(self) {
            (self.longest_since, self.longest) = wait(other);
        }
    }
}

impl From<GroupRow> for WaitingGroup {
    fn from(row: GroupRow) -> Self {
        let [n, one, three, seven] =
            [row.n, row.under_1d, row.under_3d, row.under_7d].map(i64::unsigned_abs);
        let rule = u8::try_from(row.rule).unwrap_or_default();
        Self {
            on: match rule {
                HELD_BY_RULE => WaitingFor::BasePr,
                _ => row.waiting_for.0,
            },
            rule,
            reviewed: row.reviewed,
            n,
            by_days: [one, three - one, seven - three, n - seven],
            longest: PrKey {
                repo: RepoId(row.repo_id),
                number: PrNumber(row.number),
            },
            longest_since: row.since.0,
        }
    }
}

/// SQLite's choice of the covering index of those that wait: by itself it takes another.
const WAITING_INDEX: &str = "INDEXED BY pull_requests_waiting";

/// One row for each kind, rule and whether a person has reviewed, from the covering index alone.
fn groups(filter: &WaitingFilter, now: Timestamp, scope: TeamScope) -> StatementBuilder<'static> {
    let (index, first) = match scope.is_sqlite() {
        // SQLite knows nothing of how much is in its tables; and next to one `min`, a column is that
        // of the row with the minimum.
        true => (WAITING_INDEX, ["repo_id", "number"]),
        false => (
            "",
            [
                "(array_agg(repo_id ORDER BY waiting_since, repo_id, number))[1]",
                "(array_agg(number ORDER BY waiting_since, repo_id, number))[1]",
            ],
        ),
    };
    let mut query = StatementBuilder::new(format!(
        "WITH waits AS MATERIALIZED (SELECT repo_id, number, waiting_since, waiting_for, \
             first_review_at IS NOT NULL AS reviewed, \
             CASE WHEN {IS_HELD} THEN {HELD_BY_RULE} ELSE waiting_rule END AS rule \
             FROM pull_requests {index} WHERE state = 'open' AND waiting_since IS NOT NULL"
    ));
    push_filter(&mut query, filter, scope);
    query.push(&format!(
        "), totals AS (SELECT waiting_for, rule, reviewed, count(*) AS n, \
             min(waiting_since) AS since, {} AS repo_id, {} AS number",
        first[0], first[1]
    ));
    for days in [1, 3, 7] {
        query.push(", count(CASE WHEN waiting_since > ");
        query.push_bind(Seconds(Timestamp::clamped(now.epoch() - days * DAY)));
        query.push(&format!(" THEN 1 END) AS under_{days}d"));
    }
    query.push(
        " FROM waits GROUP BY waiting_for, rule, reviewed) \
         SELECT totals.*, r.name AS repo FROM totals JOIN repositories r ON r.id = totals.repo_id",
    );
    query
}

/// The people and teams that are waited for, those first that most pull requests wait for.
fn parties(filter: &WaitingFilter, scope: TeamScope) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new(
        "SELECT kind, max(name) AS name, count(*) AS n, min(since) AS since \
         FROM waiting_parties WHERE true",
    );
    if !PlantedLeak::WaitingParties.is_planted() {
        scope.push(&mut query, "repo_id");
    }
    if !filter.people {
        query.push(" AND kind = 'team'");
    }
    if let Some(repo) = filter.repo {
        query.push(" AND repo_id = ").push_bind(repo.0);
    }
    if let Some(slug) = &filter.github_team {
        query.push(" AND kind = 'team' AND lower(name) = ");
        query.push_bind(slug.to_ascii_lowercase());
    }
    if let Some(authors) = filter.authors {
        query.push(
            " AND EXISTS (SELECT 1 FROM pull_requests \
             WHERE pull_requests.repo_id = waiting_parties.repo_id \
             AND pull_requests.number = waiting_parties.number",
        );
        query.push(by_authors(authors)).push(")");
    }
    // Read once: few are held, and each of those that are waited for has a row of its own.
    let index = if scope.is_sqlite() { WAITING_INDEX } else { "" };
    query.push(&format!(
        " AND (repo_id, number) NOT IN (SELECT repo_id, number FROM pull_requests {index} \
         WHERE state = 'open' AND waiting_since IS NOT NULL AND {IS_HELD})"
    ));
    query
        .push(" GROUP BY kind, lower(name) ORDER BY n DESC, kind, name LIMIT ")
        .push_bind(i64::from(PARTIES));
    query
}

fn unknown(filter: &WaitingFilter, scope: TeamScope) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new(
        "SELECT count(*) FROM pull_requests WHERE state = 'open' AND waiting_since IS NULL",
    );
    let filter = WaitingFilter {
        github_team: None,
        ..filter.clone()
    };
    push_filter(&mut query, &filter, scope);
    query
}

fn push_filter(query: &mut StatementBuilder<'static>, filter: &WaitingFilter, scope: TeamScope) {
    scope.push(query, "repo_id");
    if let Some(repo) = filter.repo {
        query.push(" AND repo_id = ").push_bind(repo.0);
    }
    if let Some(authors) = filter.authors {
        query.push(by_authors(authors));
    }
    if let Some(slug) = &filter.github_team {
        push_parties(query, "team", &[slug.to_ascii_lowercase()]);
    }
}
