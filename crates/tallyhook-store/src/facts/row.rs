//! The facts as rows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::types::Json;
use tallyhook_core::domain::growing::GrowingMap;
use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::pull_request::{Author, Observed, PullRequest, Source, Timeline};
use tallyhook_core::domain::repository::{RepositoryAccess, RepositoryDetails};
use tallyhook_core::event::{
    Branches, CommitDates, Conversation, Diff, Fact, MergeState, PullRequestDetails,
    RequestedReviewers, ReviewState, SnapshotMark, SubjectKind,
};
use tallyhook_core::github::types::{
    Account, AccountId, AccountKind, PrKey, PrNumber, RepoId, Timestamp,
};

use super::derived::{DerivedColumns, derived};
use super::table_columns::columns;
use crate::columns::{Millis, Name, Seconds, Words};
use crate::{PullRequestRecord, StoredPullRequest};

/// The most former names that are kept of a repository, the newest. GitHub bounds no renames.
pub(crate) const FORMER_NAMES: usize = 32;

columns! {
    /// The known facts of a pull request, without its reviews.
    #[derive(Serialize, FromRow)]
    KnownColumns {
        repo_id: i64,
        number: i64,
        version: i64,
        github_pr_id: Option<i64>,
        pr_created_at: Option<Seconds>,
        author_id: Option<i64>,
        author_login: Option<String>,
        author_type: Option<Name<AccountKind>>,
        author_at: Option<Seconds>,
        updated_at: Option<Seconds>,
        title: Option<String>,
        body: Option<String>,
        html_url: Option<String>,
        labels: Option<Words>,
        is_open: Option<bool>,
        closed_at: Option<Seconds>,
        marks: Option<Words>,
        branches_updated_at: Option<Seconds>,
        draft: Option<bool>,
        base_ref: Option<String>,
        head_ref: Option<String>,
        head_sha: Option<String>,
        head_repo_id: Option<i64>,
        full_updated_at: Option<Seconds>,
        additions: Option<i64>,
        deletions: Option<i64>,
        changed_files: Option<i64>,
        commits: Option<i64>,
        merged_at: Option<Seconds>,
        commit_first_at: Option<Seconds>,
        commit_last_at: Option<Seconds>,
        commit_prehistoric: Option<bool>,
        commits_at: Option<Seconds>,
        first_authored_at: Option<Seconds>,
        last_authored_at: Option<Seconds>,
        first_committed_at: Option<Seconds>,
        last_committed_at: Option<Seconds>,
        co_authors: Option<Json<BTreeSet<String>>>,
        requested_at: Option<Seconds>,
        requested: Option<Json<RequestedReviewers>>,
        first_requested: Option<Json<Vec<FirstRequest>>>,
        has_partial_requests: bool,
        details_at: Option<Seconds>,
        details: Option<Json<PullRequestDetails>>,
        merge_state_at: Option<Seconds>,
        merge_state: Option<Json<MergeState>>,
        whole_until: Option<Seconds>,
        truncated_at: Option<Seconds>,
        timeline: Json<Vec<Fact>>,
        observed: Json<BTreeMap<i64, Observed>>,
        source: Option<Name<Source>>,
        parties_hash: Option<i64>,
    }
}

columns! {
    /// Older timeline entries of a long pull request, apart from its row.
    #[derive(Serialize, Deserialize, FromRow)]
    SegmentColumns {
        repo_id: i64,
        number: i64,
        version: i64,
        timeline: Json<Vec<Fact>>,
        observed: Json<BTreeMap<i64, Observed>>,
    }
}

columns! {
    #[derive(Serialize, Deserialize, FromRow)]
    ReviewColumns {
        github_review_id: i64,
        repo_id: i64,
        number: i64,
        reviewer_id: i64,
        reviewer_login: String,
        reviewer_type: Name<AccountKind>,
        original_state: Option<Name<ReviewState>>,
        submitted_at: Seconds,
        commit_id: Option<String>,
        dismissed: bool,
        dismissed_at: Option<Seconds>,
    }
}

columns! {
    #[derive(Serialize)]
    RepositoryColumns {
        id: i64,
        name: String,
        private: Option<bool>,
        seen_at: Seconds,
        installation_id: Option<i64>,
        access: Name<RepositoryAccess>,
        access_at: Seconds,
        tracked_since: Millis,
        tracked: bool,
        last_delivery_at: Option<Millis>,
        former_names: Json<BTreeMap<String, i64>>,
    }
}

/// Makes the update of an existing pull request, in the table called `known`. The version must be
/// the one that was read, and what is written no older than what is there: the rule of the domain
/// once more, where no other process can get between.
pub(crate) fn pull_request_update() -> String {
    let columns = [KnownColumns::COLUMNS, DerivedColumns::COLUMNS].concat();
    let updates: Vec<_> = columns[2..]
        .iter()
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    format!(
        "ON CONFLICT (repo_id, number) DO UPDATE SET {} \
         WHERE known.version = excluded.version - 1 \
         AND coalesce(known.updated_at <= excluded.updated_at, known.updated_at IS NULL) \
         AND (known.merged_at IS NULL OR excluded.merged_at <= known.merged_at)",
        updates.join(", ")
    )
}

/// Returns the columns to load, of the table called `p`: the numbers are computed again from the
/// facts, and not read.
pub(crate) fn known_columns() -> String {
    let columns: Vec<_> = KnownColumns::COLUMNS
        .iter()
        .map(|column| format!("p.{column}"))
        .collect();
    columns.join(", ")
}

/// Hardly any snapshot has a mark.
fn marks(marks: &BTreeSet<SnapshotMark>) -> Option<Words> {
    let names = marks.iter().map(|mark| mark.as_str().to_owned());
    (!marks.is_empty()).then(|| Words(names.collect()))
}

pub(super) fn seconds(at: Option<Timestamp>) -> Option<Seconds> {
    at.map(Seconds)
}

pub(super) fn timestamp(at: Option<Seconds>) -> Option<Timestamp> {
    at.map(|Seconds(at)| at)
}

/// Kind, id and seconds since 1970 of the first payload that listed a reviewer.
type FirstRequest = (SubjectKind, i64, i64);

fn first_requests(
    requests: &BTreeMap<(SubjectKind, i64), Timestamp>,
) -> Option<Json<Vec<FirstRequest>>> {
    let rows = requests.iter();
    let rows = rows.map(|((kind, id), at)| (*kind, *id, at.epoch()));
    (!requests.is_empty()).then(|| Json(rows.collect()))
}

fn guard<T>(group: Option<&Dated<T>>) -> Option<Seconds> {
    group.map(|dated| Seconds(dated.at))
}

fn value<T: Clone>(group: Option<&Dated<T>>) -> Option<Json<T>> {
    group.map(|dated| Json(dated.value.clone()))
}

/// The columns of a pull request as it is to be written: with the version after the one that was
/// read, and with the recent part of its history if that does not become a segment.
pub(crate) fn columns_of(record: &PullRequestRecord) -> (KnownColumns, DerivedColumns) {
    let recent = match record.known.fills_segment() {
        true => SegmentColumns::empty(&record.known),
        false => SegmentColumns::recent(&record.known),
    };
    let PullRequest {
        key,
        github_id,
        created_at,
        author,
        conversation,
        branches,
        diff,
        requested,
        first_requested,
        details,
        merge_state,
        merged_at,
        commits,
        co_authors,
        whole_until,
        truncated_at,
        timeline,
        observed: _,
        reviews: _,
        source,
    } = &record.known.pull_request;
    let (talk, code, counts) = (
        conversation.as_ref().map(|dated| &dated.value),
        branches.as_ref().map(|dated| &dated.value),
        diff.as_ref().map(|dated| &dated.value),
    );
    let account = author.as_ref().map(|dated| &dated.value.0);
    let dates = commits.as_ref().map(|dated| dated.value);
    let known = KnownColumns {
        repo_id: key.repo.0,
        number: key.number.0,
        version: record.known.version + 1,
        github_pr_id: *github_id,
        pr_created_at: seconds(*created_at),
        author_id: account.map(|account| account.id.0),
        author_login: account.map(|account| account.login.clone()),
        author_type: account.map(|account| Name(account.kind)),
        author_at: seconds(author.as_ref().map(|dated| dated.at)),
        updated_at: seconds(conversation.as_ref().map(|dated| dated.at)),
        title: talk.and_then(|talk| talk.title.clone()),
        body: talk.and_then(|talk| talk.body.clone()),
        html_url: talk.and_then(|talk| talk.html_url.clone()),
        labels: talk.map(|talk| Words(talk.labels.clone())),
        is_open: talk.map(|talk| talk.open),
        closed_at: seconds(talk.and_then(|talk| talk.closed_at)),
        marks: talk.and_then(|talk| marks(&talk.marks)),
        branches_updated_at: seconds(branches.as_ref().map(|dated| dated.at)),
        draft: code.and_then(|code| code.draft),
        base_ref: code.map(|code| code.base_ref.clone()),
        head_ref: code.map(|code| code.head_ref.clone()),
        head_sha: code.map(|code| code.head_sha.clone()),
        head_repo_id: code.and_then(|code| code.head_repo).map(|repo| repo.0),
        full_updated_at: seconds(diff.as_ref().map(|dated| dated.at)),
        additions: counts.and_then(|counts| counts.additions),
        deletions: counts.and_then(|counts| counts.deletions),
        changed_files: counts.and_then(|counts| counts.changed_files),
        commits: counts.and_then(|counts| counts.commits),
        merged_at: seconds(*merged_at),
        commit_first_at: seconds(dates.and_then(|dates| dates.first)),
        commit_last_at: seconds(dates.and_then(|dates| dates.last)),
        commit_prehistoric: dates.map(|dates| dates.prehistoric),
        commits_at: seconds(commits.as_ref().map(|dated| dated.at)),
        first_authored_at: seconds(dates.and_then(|dates| dates.first_authored)),
        last_authored_at: seconds(dates.and_then(|dates| dates.last_authored)),
        first_committed_at: seconds(dates.and_then(|dates| dates.first_committed)),
        last_committed_at: seconds(dates.and_then(|dates| dates.last_committed)),
        co_authors: (!co_authors.is_empty()).then(|| Json(co_authors.clone())),
        requested_at: guard(requested.as_ref()),
        requested: value(requested.as_ref()),
        first_requested: first_requests(first_requested),
        has_partial_requests: timeline.has_partial_requests(),
        details_at: guard(details.as_ref()),
        details: value(details.as_ref()),
        merge_state_at: guard(merge_state.as_ref()),
        merge_state: value(merge_state.as_ref()),
        whole_until: seconds(*whole_until),
        truncated_at: seconds(*truncated_at),
        timeline: recent.timeline,
        observed: recent.observed,
        source: source.map(Name),
        parties_hash: record.parties_hash(),
    };
    (known, derived(*key, record.numbers.as_ref()))
}

impl SegmentColumns {
    /// Returns the part of the history of `known` that no segment has yet.
    fn recent(known: &StoredPullRequest) -> Self {
        let PullRequest {
            timeline, observed, ..
        } = &known.pull_request;
        let observed = observed.recent().map(|(at, seen)| (at.epoch(), *seen));
        Self {
            timeline: Json(timeline.recent().collect()),
            observed: Json(observed.collect()),
            ..Self::empty(known)
        }
    }

    fn empty(known: &StoredPullRequest) -> Self {
        let PrKey { repo, number } = known.pull_request.key;
        Self {
            repo_id: repo.0,
            number: number.0,
            version: known.version + 1,
            timeline: Json(Vec::new()),
            observed: Json(BTreeMap::new()),
        }
    }

    /// Returns the segments that the write of `records` adds.
    pub(crate) fn added(records: &[PullRequestRecord]) -> Vec<Self> {
        let full = records.iter().filter(|record| record.known.fills_segment());
        full.map(|record| Self::recent(&record.known)).collect()
    }

    /// Returns the pull requests whose segments the write of `records` deletes.
    pub(crate) fn replaced(records: &[PullRequestRecord]) -> Vec<PrKey> {
        let replaced = records
            .iter()
            .filter(|record| record.known.replaces_segments());
        replaced
            .map(|record| record.known.pull_request.key)
            .collect()
    }

    pub(crate) fn key(&self) -> PrKey {
        PrKey {
            repo: RepoId(self.repo_id),
            number: PrNumber(self.number),
        }
    }
}

fn observations(observed: BTreeMap<i64, Observed>) -> impl Iterator<Item = (Timestamp, Observed)> {
    observed
        .into_iter()
        .map(|(at, seen)| (Timestamp::clamped(at), seen))
}

/// The repository of a loaded pull request, beside its columns.
#[derive(FromRow)]
pub(crate) struct RepositorySeen {
    repo_name: Option<String>,
    repo_private: Option<bool>,
    repo_seen_at: Option<Seconds>,
}

impl RepositorySeen {
    /// The columns of `r`, the repository.
    pub(crate) const COLUMNS: &'static str =
        "r.name AS repo_name, r.private AS repo_private, r.seen_at AS repo_seen_at";

    fn details(self) -> Option<Dated<RepositoryDetails>> {
        let details = self.repo_name.map(|name| RepositoryDetails {
            name,
            private: self.repo_private,
        });
        dated(self.repo_seen_at, details)
    }
}

/// The version of a stored pull request, and its repository.
#[derive(FromRow)]
pub(crate) struct VersionRow {
    repo_id: i64,
    number: i64,
    version: i64,
    #[sqlx(flatten)]
    repository: RepositorySeen,
}

impl VersionRow {
    /// The columns of `p`, the pull request, and `r`, its repository.
    pub(crate) fn columns() -> String {
        let repository = RepositorySeen::COLUMNS;
        format!("p.repo_id, p.number, p.version, {repository}")
    }

    pub(crate) fn key(&self) -> PrKey {
        PrKey {
            repo: RepoId(self.repo_id),
            number: PrNumber(self.number),
        }
    }

    /// Returns `known` with this repository, if it is of this version.
    pub(crate) fn confirm(self, known: StoredPullRequest) -> Option<StoredPullRequest> {
        (known.version == self.version).then(|| StoredPullRequest {
            repository: self.repository.details(),
            ..known
        })
    }
}

impl KnownColumns {
    pub(crate) fn key(&self) -> PrKey {
        PrKey {
            repo: RepoId(self.repo_id),
            number: PrNumber(self.number),
        }
    }

    /// Joins the row with its repository and its segments.
    pub(crate) fn joined(
        self,
        repository: RepositorySeen,
        segments: Vec<SegmentColumns>,
    ) -> StoredPullRequest {
        let row = self;
        let (facts, seen): (Vec<_>, Vec<_>) = segments
            .into_iter()
            .map(|segment| (segment.timeline.0, segment.observed.0))
            .unzip();
        let mut timeline = Timeline::of_segments(facts.into_iter().flatten());
        timeline.extend(row.timeline.0);
        let mut observed = GrowingMap::of_segments(seen.into_iter().flat_map(observations));
        observed.extend(observations(row.observed.0));
        let conversation = row.is_open.map(|open| Conversation {
            title: row.title,
            body: row.body,
            html_url: row.html_url,
            labels: row.labels.map(|Words(labels)| labels).unwrap_or_default(),
            open,
            closed_at: timestamp(row.closed_at),
            // A newer version may have stored marks that this one does not know.
            marks: row
                .marks
                .iter()
                .flat_map(|Words(marks)| marks)
                .filter_map(|mark| mark.parse().ok())
                .collect(),
        });
        let author = author(row.author_id, row.author_login, row.author_type);
        let refs = row.base_ref.zip(row.head_ref).zip(row.head_sha);
        let branches = refs.map(|((base_ref, head_ref), head_sha)| Branches {
            draft: row.draft,
            base_ref,
            head_ref,
            head_sha,
            head_repo: row.head_repo_id.map(RepoId),
        });
        let diff = Diff {
            additions: row.additions,
            deletions: row.deletions,
            changed_files: row.changed_files,
            commits: row.commits,
        };
        let commits = row.commit_prehistoric.map(|prehistoric| CommitDates {
            first: timestamp(row.commit_first_at),
            last: timestamp(row.commit_last_at),
            prehistoric,
            first_authored: timestamp(row.first_authored_at),
            last_authored: timestamp(row.last_authored_at),
            first_committed: timestamp(row.first_committed_at),
            last_committed: timestamp(row.last_committed_at),
        });
        let pull_request = PullRequest {
            key: PrKey {
                repo: RepoId(row.repo_id),
                number: PrNumber(row.number),
            },
            github_id: row.github_pr_id,
            created_at: timestamp(row.pr_created_at),
            author: dated(row.author_at, author),
            conversation: dated(row.updated_at, conversation),
            branches: dated(row.branches_updated_at, branches),
            diff: dated(row.full_updated_at, Some(diff)),
            requested: dated(row.requested_at, row.requested.map(|Json(value)| value)),
            first_requested: row
                .first_requested
                .into_iter()
                .flat_map(|Json(requests)| requests)
                .map(|(kind, id, at)| ((kind, id), Timestamp::clamped(at)))
                .collect(),
            details: dated(row.details_at, row.details.map(|Json(value)| value)),
            merge_state: dated(row.merge_state_at, row.merge_state.map(|Json(value)| value)),
            merged_at: timestamp(row.merged_at),
            commits: dated(row.commits_at, commits),
            co_authors: row.co_authors.map(|Json(named)| named).unwrap_or_default(),
            whole_until: timestamp(row.whole_until),
            truncated_at: timestamp(row.truncated_at),
            timeline,
            observed,
            reviews: BTreeMap::new(),
            source: row.source.map(|Name(source)| source),
        };
        StoredPullRequest {
            pull_request,
            version: row.version,
            repository: repository.details(),
            parties_hash: row.parties_hash,
        }
    }
}

fn author(
    id: Option<i64>,
    login: Option<String>,
    kind: Option<Name<AccountKind>>,
) -> Option<Author> {
    let ((id, login), Name(kind)) = id.zip(login).zip(kind)?;
    Some(Author(Account {
        id: AccountId(id),
        login,
        kind,
    }))
}

/// A group of columns with its guard; not there while the guard is null.
fn dated<T>(guard: Option<Seconds>, group: Option<T>) -> Option<Dated<T>> {
    guard
        .zip(group)
        .map(|(Seconds(at), value)| Dated { at, value })
}
