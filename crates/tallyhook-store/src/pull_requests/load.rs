//! The load of reviews, read from review requests, reviews and merged pull requests.

use tallyhook_core::domain::metrics::{
    AuthorFilter, LoadAggregation, PartyLoad, RequestOutcome, ReviewConcentration,
};
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::waiting::PairEnd;
use tallyhook_core::github::types::{Account, AccountId, AccountKind, RepoId, Timestamp};

use super::aggregate_rows::{by_authors, merged_index, push_index};
use super::aggregates::each_row;
use super::sql::logins_of;
use crate::columns::{Name, Seconds};
use crate::database::{Database, StatementBuilder};
use crate::team_store::TeamScope;
use crate::{Result, TeamStore};

/// The review requests that a load is about.
#[derive(Clone, Debug)]
pub struct LoadFilter {
    pub repo: Option<RepoId>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub by: LoadParty,
}

/// The parties whose load is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadParty {
    Teams,
    People,
    /// One person by login, present or former.
    Person(String),
}

/// The load of each party, and the spread of reviews over reviewers.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewLoad {
    pub parties: Vec<PartyLoad>,
    pub concentration: ReviewConcentration,
}

/// A request: the id of its party where it has one, its name, the times of the request and of the
/// response, between them the end, and whether it was made in the range.
type RequestRow = (
    Option<i64>,
    String,
    Seconds,
    Name<PairEnd>,
    Option<Seconds>,
    bool,
);

fn outcome(
    (party, name, asked_at, end, response_review_at, in_range): RequestRow,
) -> RequestOutcome {
    RequestOutcome {
        party: party.ok_or_else(|| name.to_lowercase()),
        name,
        asked_at: asked_at.0,
        end: end.0,
        response_review_at: response_review_at.map(|Seconds(at)| at),
        in_range,
    }
}

/// The party that was asked, as in [`RequestRow`], and the columns of [`ReviewerRow`].
type AnswererRow = (
    Option<i64>,
    String,
    i64,
    String,
    Name<AccountKind>,
    Option<i64>,
);

/// A review: the id, login and kind of the reviewer, and the id of the author of its pull request.
type ReviewerRow = (i64, String, Name<AccountKind>, Option<i64>);

fn reviewer(id: i64, login: String, kind: Name<AccountKind>) -> Account {
    Account {
        id: AccountId(id),
        login,
        kind: kind.0,
    }
}

impl TeamStore {
    /// Computes the load of reviews: of requests that were made in the range or are open, and of
    /// pull requests that were merged in it.
    pub async fn review_load(&self, filter: &LoadFilter, bots: &Bots) -> Result<ReviewLoad> {
        let (database, bots, scope) = (self.database.clone(), bots.clone(), self.scope().await?);
        let by_teams = filter.by == LoadParty::Teams;
        let logins = match &filter.by {
            LoadParty::Person(login) => Some(logins_of(&self.database, login).await?.1),
            LoadParty::Teams | LoadParty::People => None,
        };
        let filter = filter.clone();
        let gather = move || async move {
            let mut load = LoadAggregation::default();
            for in_range in [true, false] {
                let rows = requests(&filter, scope, logins.as_deref(), in_range);
                each_row(&database, rows, |row: RequestRow| {
                    load.add_request(outcome(row));
                })
                .await?;
            }
            if by_teams {
                each_row(&database, answerers(&filter, scope), |row: AnswererRow| {
                    let (party, name, id, login, kind, author) = row;
                    let person = reviewer(id, login, kind);
                    if author != Some(id) && !bots.contains(&person) {
                        load.add_answerer(party.ok_or_else(|| name.to_lowercase()), person.id);
                    }
                })
                .await?;
            }
            let merged = concentration(&database, (&filter, scope), &bots, &mut load).await?;
            Ok((load, merged))
        };
        let compute = move |(mut load, merged): (LoadAggregation, u64)| ReviewLoad {
            concentration: load.concentration(merged),
            parties: match by_teams {
                true => load.teams(),
                false => load.people(),
            },
        };
        self.store.aggregation.run(gather, compute).await
    }
}

/// Adds the reviews of pull requests that people merged. Returns the number of these.
async fn concentration(
    database: &Database,
    (filter, scope): (&LoadFilter, TeamScope),
    bots: &Bots,
    load: &mut LoadAggregation,
) -> Result<u64> {
    let mut reviews = StatementBuilder::new(
        "SELECT v.reviewer_id, v.reviewer_login, v.reviewer_type, p.author_id FROM ",
    );
    push_merged(&mut reviews, filter, scope);
    reviews.push(
        " CROSS JOIN reviews v WHERE v.repo_id = p.repo_id AND v.number = p.number \
         AND p.state = 'merged'",
    );
    push_merged_scope(&mut reviews, filter, scope);
    reviews.push(by_authors(AuthorFilter::Human));
    push_range(&mut reviews, "p.repo_id", "p.merged_at", filter);
    each_row(database, reviews, |row: ReviewerRow| {
        let (id, login, kind, author) = row;
        // An author who is not known is no reviewer.
        let author = AccountId(author.unwrap_or(0));
        load.add_review(&reviewer(id, login, kind), author, bots);
    })
    .await?;
    let mut merged = StatementBuilder::new("SELECT count(*) FROM ");
    push_merged(&mut merged, filter, scope);
    merged.push(" WHERE p.state = 'merged'");
    push_merged_scope(&mut merged, filter, scope);
    merged.push(by_authors(AuthorFilter::Human));
    push_range(&mut merged, "p.repo_id", "p.merged_at", filter);
    let row: Option<(i64,)> = database.row(merged.build()).await?;
    Ok(row.map_or(0, |(merged,)| merged.unsigned_abs()))
}

/// Adds the table of pull requests, of which SQLite is to read the merged ones in the range alone.
fn push_merged(query: &mut StatementBuilder<'static>, filter: &LoadFilter, scope: TeamScope) {
    query.push("pull_requests p");
    push_index(query, merged_index(filter.repo, scope), scope);
}

/// Adds the condition that a merged pull request is of the scope.
fn push_merged_scope(query: &mut StatementBuilder<'static>, filter: &LoadFilter, scope: TeamScope) {
    match filter.repo {
        Some(repo) => scope.push_repository(query, repo),
        None if scope.is_by_repository() => scope.push_lookup(query, "p.repo_id"),
        None => scope.push(query, "p.repo_id"),
    }
}

/// The requests that were made in the range, or those made outside of it that are open.
fn requests(
    filter: &LoadFilter,
    scope: TeamScope,
    logins: Option<&[String]>,
    in_range: bool,
) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new(format!(
        "SELECT party_id, name, asked_at, outcome, response_review_at, 1 = {} AS in_range \
         FROM review_pairs WHERE kind = '{}'",
        i32::from(in_range),
        filter.by.kind()
    ));
    scope.push(&mut query, "repo_id");
    if in_range {
        push_range(&mut query, "repo_id", "asked_at", filter);
    } else {
        query.push(" AND outcome = 'open'");
        if let Some(repo) = filter.repo {
            query.push(" AND repo_id = ").push_bind(repo.0);
        }
        push_outside(&mut query, filter);
    }
    if let Some(logins) = logins {
        query.push(" AND (false");
        for login in logins {
            query.push(" OR lower(name) = ");
            query.push_bind(login.to_ascii_lowercase());
        }
        query.push(")");
    }
    query
}

fn push_outside(query: &mut StatementBuilder<'static>, filter: &LoadFilter) {
    query.push(" AND (false");
    if let Some(from) = filter.from {
        query.push(" OR asked_at < ").push_bind(Seconds(from));
    }
    if let Some(to) = filter.to {
        query.push(" OR asked_at >= ").push_bind(Seconds(to));
    }
    query.push(")");
}

/// The people whose reviews answered requests to teams: the only members that are known.
fn answerers(filter: &LoadFilter, scope: TeamScope) -> StatementBuilder<'static> {
    let mut query = StatementBuilder::new(
        "SELECT DISTINCT a.party_id, a.name, v.reviewer_id, v.reviewer_login, v.reviewer_type, \
         p.author_id \
         FROM review_pairs a CROSS JOIN reviews v CROSS JOIN pull_requests p \
         WHERE v.repo_id = a.repo_id AND v.number = a.number AND a.kind = 'team' \
         AND v.submitted_at = a.response_review_at \
         AND p.repo_id = a.repo_id AND p.number = a.number",
    );
    scope.push(&mut query, "a.repo_id");
    push_range(&mut query, "a.repo_id", "a.asked_at", filter);
    query
}

fn push_range(
    query: &mut StatementBuilder<'static>,
    repo_column: &str,
    time_column: &str,
    filter: &LoadFilter,
) {
    if let Some(repo) = filter.repo {
        query
            .push(" AND ")
            .push(repo_column)
            .push(" = ")
            .push_bind(repo.0);
    }
    for (sign, at) in [(">=", filter.from), ("<", filter.to)] {
        if let Some(at) = at {
            query
                .push(&format!(" AND {time_column} {sign} "))
                .push_bind(Seconds(at));
        }
    }
}

impl LoadParty {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Teams => "team",
            Self::People | Self::Person(_) => "account",
        }
    }
}
