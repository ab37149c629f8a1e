//! Pull requests: the list of the latest updates, and complete pull requests with all their lists.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tallyhook_core::github::graphql::{
    self, Connection, GraphqlPullRequest, GraphqlRepository, More, Number, OmittedParts,
    OptionalPart, PageInfo, RepositoryPage,
};
use tallyhook_core::github::types::{PrNumber, RepoId, Timestamp};

use super::Result;
use super::client::{Client, ConditionalResponse};
use super::error::{GithubError, GraphqlError};
use super::optional_parts::RepositoryResponse;

/// The length of a page of [`Client::pull_request_summaries`], GitHub's maximum.
pub const SUMMARIES: usize = 100;
/// The limit of further pages of one pull request's lists. A list of more than a few thousand
/// entries is truncated, and marked so.
const MAX_MORE_PAGES: usize = 20;
/// The steps of an error's path before the index in a page, `repository.pullRequests.nodes.INDEX`,
/// and before the alias, `repository.ALIAS`.
const INDEX_STEP: usize = 3;
const ALIAS_STEP: usize = 1;

/// The fields of a pull request in a list that show whether it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PullRequestSummary {
    pub number: PrNumber,
    pub updated_at: Timestamp,
    base: SummaryBase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct SummaryBase {
    repo: SummaryRepository,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct SummaryRepository {
    id: RepoId,
}

impl PullRequestSummary {
    /// Returns the repository of the pull request.
    pub fn repo(&self) -> RepoId {
        self.base.repo.id
    }
}

/// A pull request with all entries of its lists.
#[derive(Clone, Debug)]
pub struct CompletePullRequest {
    pub pull_request: GraphqlPullRequest,
    /// A list is longer than the limit of pages, or GitHub withholds entries of it.
    pub truncated: bool,
    /// GitHub's reason for parts that it left out.
    pub left_out: Option<String>,
}

/// A pull request that could not be fetched, though others of the request could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFailure {
    pub number: PrNumber,
    pub reason: String,
    /// GitHub has no such pull request.
    pub missing: bool,
}

impl FetchFailure {
    fn new(number: PrNumber, reason: String) -> Self {
        Self {
            number,
            reason,
            missing: false,
        }
    }
}

/// Pull requests of one repository, as far as they could be fetched.
#[derive(Clone, Debug)]
pub struct FetchedPullRequests {
    pub repository: GraphqlRepository,
    /// In the order of the response.
    pub complete: Vec<CompletePullRequest>,
    pub failures: Vec<FetchFailure>,
    /// A timestamp by GitHub's clock before its execution: the data is not older.
    pub asked_at: DateTime<Utc>,
}

impl FetchedPullRequests {
    fn new(repository: GraphqlRepository, asked_at: DateTime<Utc>) -> Self {
        Self {
            repository,
            complete: Vec::new(),
            failures: Vec::new(),
            asked_at,
        }
    }
}

/// A page of pull requests, latest update first.
#[derive(Clone, Debug)]
pub struct FetchedPage {
    pub pull_requests: FetchedPullRequests,
    /// The number of pull requests of the repository.
    pub total: Option<u64>,
    /// The cursor of the next page; `None` after the last.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct NumberedPullRequests {
    #[serde(flatten)]
    repository: GraphqlRepository,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FurtherEntries {
    pull_request: Option<More>,
}

impl Client {
    /// Fetches page `page` (from 1 on) of a repository's pull requests, latest update first; at no
    /// cost if it is unchanged.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn pull_request_summaries(
        &self,
        repo: &str,
        page: usize,
    ) -> Result<ConditionalResponse<Vec<PullRequestSummary>>> {
        let path = format!(
            "/repos/{repo}/pulls?state=all&sort=updated&direction=desc&per_page={SUMMARIES}&page={page}"
        );
        self.get_conditional(&path).await
    }

    /// Fetches the list's fields of one pull request; at no cost if they are unchanged.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do.
    pub async fn pull_request_summary(
        &self,
        repo: &str,
        number: PrNumber,
    ) -> Result<PullRequestSummary> {
        let response: ConditionalResponse<PullRequestSummary> = self
            .get_conditional(&format!("/repos/{repo}/pulls/{number}"))
            .await?;
        Ok(response.value)
    }

    /// Fetches `first` complete pull requests of `repo` after the cursor `after`, with the dates of
    /// their commits if `commits`.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do; [`GithubError::TooMuch`] if less has to be asked for
    /// at once.
    pub async fn pull_request_page(
        &self,
        repo: &str,
        first: u32,
        after: Option<&str>,
        commits: bool,
    ) -> Result<FetchedPage> {
        let variables = json!({"first": first, "after": after});
        let RepositoryResponse {
            repository: page,
            errors,
            asked_at,
        }: RepositoryResponse<RepositoryPage<Value>> = self
            .query_parts(repo, graphql::page, variables.clone(), commits, INDEX_STEP)
            .await?;
        let Connection {
            total_count: total,
            page_info,
            nodes,
        } = page.pull_requests;
        let mut fetched = FetchedPullRequests::new(page.repository, asked_at);
        let mut gaps = Vec::new();
        for (index, node) in nodes.unwrap_or_default().into_iter().enumerate() {
            let number = node.as_ref().and_then(number_of);
            let errors = errors_of(&errors, INDEX_STEP, &index.to_string());
            let reason = errors.first().map(|error| error.message.clone());
            let parsed = node.map(serde_json::from_value::<GraphqlPullRequest>);
            let failure = match (parsed, number, reason) {
                (Some(Ok(pull_request)), ..) => {
                    let first = CompletePullRequest::first(pull_request, &errors);
                    self.complete(repo, first, commits, &mut fetched).await?;
                    continue;
                }
                (Some(Err(error)), Some(number), None) => FetchFailure::new(number, shape(&error)),
                (_, Some(number), reason) => {
                    FetchFailure::new(number, reason.unwrap_or_else(left_out))
                }
                (_, None, reason) => {
                    gaps.push(reason.unwrap_or_else(left_out));
                    continue;
                }
            };
            fetched.failures.push(failure);
        }
        if !gaps.is_empty() {
            self.name_gaps(repo, variables, gaps, &mut fetched).await?;
        }
        Ok(FetchedPage {
            pull_requests: fetched,
            total,
            next: page_info.next().map(str::to_owned),
        })
    }

    /// Fetches only the numbers of the page that [`Client::pull_request_page`] could not get: each
    /// one is a failure.
    ///
    /// # Errors
    /// As of [`Client::pull_request_page`].
    pub async fn skip_page(
        &self,
        repo: &str,
        first: u32,
        after: Option<&str>,
    ) -> Result<FetchedPage> {
        let (
            RepositoryResponse {
                repository: page,
                asked_at,
                ..
            },
            numbers,
        ) = self
            .numbers(repo, json!({"first": first, "after": after}))
            .await?;
        let reason = "GitHub takes too long for it";
        let failures = numbers
            .into_iter()
            .map(|number| FetchFailure::new(number, reason.to_owned()))
            .collect();
        let fetched = FetchedPullRequests {
            repository: page.repository,
            complete: Vec::new(),
            failures,
            asked_at,
        };
        let Connection {
            total_count: total,
            page_info,
            ..
        } = page.pull_requests;
        Ok(FetchedPage {
            pull_requests: fetched,
            total,
            next: page_info.next().map(str::to_owned),
        })
    }

    /// Adds the failures of the pull requests that are missing on a page: those whose numbers it
    /// has and that were not fetched.
    async fn name_gaps(
        &self,
        repo: &str,
        variables: Value,
        gaps: Vec<String>,
        fetched: &mut FetchedPullRequests,
    ) -> Result<()> {
        let (_, mut numbers) = self.numbers(repo, variables).await?;
        let known: BTreeSet<_> = fetched
            .complete
            .iter()
            .map(|complete| complete.pull_request.number)
            .chain(fetched.failures.iter().map(|failure| failure.number))
            .collect();
        numbers.retain(|number| !known.contains(number));
        if numbers.len() != gaps.len() {
            // A pull request moved between the two requests. A further request finds its new
            // position.
            let reason = "a page changed while it was read".to_owned();
            return Err(GithubError::TooMuch {
                path: repo.to_owned(),
                reason,
            });
        }
        fetched.failures.extend(
            numbers
                .into_iter()
                .zip(gaps)
                .map(|(number, reason)| FetchFailure::new(number, reason)),
        );
        Ok(())
    }

    async fn numbers(
        &self,
        repo: &str,
        variables: Value,
    ) -> Result<(RepositoryResponse<RepositoryPage<Number>>, Vec<PrNumber>)> {
        let mut response: RepositoryResponse<RepositoryPage<Number>> = self
            .query_parts(
                repo,
                |_| graphql::NUMBERS.to_owned(),
                variables,
                false,
                INDEX_STEP,
            )
            .await?;
        let nodes = response
            .repository
            .pull_requests
            .nodes
            .take()
            .unwrap_or_default();
        Ok((
            response,
            nodes
                .into_iter()
                .flatten()
                .map(|node| node.number)
                .collect(),
        ))
    }

    /// Fetches the complete pull requests of `repo` with these numbers.
    ///
    /// # Errors
    /// [`GithubError`], named by what to do; [`GithubError::TooMuch`] if less has to be asked for
    /// at once. A number that does not exist is a failure, not an error.
    pub async fn pull_requests_by_number(
        &self,
        repo: &str,
        numbers: &[PrNumber],
        commits: bool,
    ) -> Result<FetchedPullRequests> {
        let query = |omitted: &OmittedParts| graphql::numbered(numbers, omitted);
        let RepositoryResponse {
            repository:
                NumberedPullRequests {
                    repository,
                    mut rest,
                },
            errors,
            asked_at,
        } = self
            .query_parts(repo, query, json!({}), commits, ALIAS_STEP)
            .await?;
        let mut fetched = FetchedPullRequests::new(repository, asked_at);
        for number in numbers {
            let alias = graphql::alias(*number);
            let errors = errors_of(&errors, ALIAS_STEP, &alias);
            let node = rest
                .remove(&alias)
                .map(serde_json::from_value::<Option<GraphqlPullRequest>>);
            match (node, errors.first()) {
                (Some(Ok(Some(pull_request))), _) => {
                    let first = CompletePullRequest::first(pull_request, &errors);
                    self.complete(repo, first, commits, &mut fetched).await?;
                }
                (Some(Err(error)), None) => fetched
                    .failures
                    .push(FetchFailure::new(*number, shape(&error))),
                (_, Some(error)) => {
                    let missing = error.kind.as_deref() == Some("NOT_FOUND");
                    fetched.failures.push(FetchFailure {
                        number: *number,
                        reason: error.message.clone(),
                        missing,
                    });
                }
                (_, None) => {
                    let reason = "GitHub has no such pull request".to_owned();
                    fetched.failures.push(FetchFailure {
                        number: *number,
                        reason,
                        missing: true,
                    });
                }
            }
        }
        Ok(fetched)
    }

    /// Sends a query about one repository. An error of none of its parts, whose paths are longer
    /// than `depth` steps, concerns all of them.
    async fn query_parts<T: DeserializeOwned>(
        &self,
        repo: &str,
        query: impl Fn(&OmittedParts) -> String,
        mut variables: Value,
        commits: bool,
        depth: usize,
    ) -> Result<RepositoryResponse<T>> {
        let (owner, name) = repo.split_once('/').unwrap_or((repo, ""));
        variables["owner"] = owner.into();
        variables["name"] = name.into();
        variables["commits"] = if commits { graphql::COMMITS } else { 1 }.into();
        let response = self.query_repository(repo, query, &variables).await?;
        match response
            .errors
            .iter()
            .find(|error| error.path.len() <= depth)
        {
            Some(error) => Err(GithubError::TooMuch {
                path: repo.to_owned(),
                reason: error.message.clone(),
            }),
            None => Ok(response),
        }
    }

    /// Fetches the rest of a pull request's lists. An error of this pull request alone is a
    /// failure.
    async fn complete(
        &self,
        repo: &str,
        first: CompletePullRequest,
        commits: bool,
        fetched: &mut FetchedPullRequests,
    ) -> Result<()> {
        let number = first.pull_request.number;
        match self.with_all_entries(repo, first, commits).await {
            Ok(mut complete) => {
                // Such a timeline replaces nothing that webhooks showed.
                let of_timeline = [OptionalPart::Drafts, OptionalPart::MergeQueue];
                let refused = self.refused_parts().lock();
                complete.truncated |= refused.keys().any(|part| of_timeline.contains(part));
                fetched.complete.push(complete);
            }
            Err(error) if error.concerns_one_item() => {
                fetched
                    .failures
                    .push(FetchFailure::new(number, error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn with_all_entries(
        &self,
        repo: &str,
        mut complete: CompletePullRequest,
        commits: bool,
    ) -> Result<CompletePullRequest> {
        for _ in 0..MAX_MORE_PAGES {
            let pull_request = &mut complete.pull_request;
            let reviews = pull_request
                .reviews
                .as_ref()
                .and_then(|reviews| reviews.page_info.next());
            let history = Some(&pull_request.commits.page_info)
                .filter(|_| commits)
                .and_then(PageInfo::next);
            let timeline = pull_request.timeline_items.page_info.next();
            if reviews.is_none() && history.is_none() && timeline.is_none() {
                return Ok(complete);
            }
            let asked = [reviews, history, timeline].map(|cursor| cursor.is_some());
            let (owner, name) = repo.split_once('/').unwrap_or((repo, ""));
            let variables = json!({
                "owner": owner, "name": name, "number": pull_request.number,
                "reviews": asked[0], "reviewsAfter": reviews,
                "commits": asked[1], "commitsAfter": history,
                "timeline": asked[2], "timelineAfter": timeline,
            });
            let RepositoryResponse {
                repository: page,
                errors,
                ..
            } = self
                .query_repository::<FurtherEntries>(repo, graphql::more, &variables)
                .await?;
            let has_all = |more: &More| {
                let lists = [
                    more.reviews.is_some(),
                    more.commits.is_some(),
                    more.timeline_items.is_some(),
                ];
                lists
                    .iter()
                    .zip(asked)
                    .all(|(is_there, is_asked)| *is_there || !is_asked)
            };
            let Some(more) = page.pull_request.filter(has_all) else {
                let reason = errors
                    .first()
                    .map_or("GitHub left out what follows", |error| {
                        error.message.as_str()
                    });
                return Err(GithubError::Unexpected {
                    path: format!("{repo}#{}", pull_request.number),
                    reason: reason.to_owned(),
                });
            };
            if let Some(known) = &mut pull_request.reviews {
                extend(known, more.reviews);
            }
            extend(&mut pull_request.commits, more.commits);
            extend(&mut pull_request.timeline_items, more.timeline_items);
            complete.note(&errors.iter().collect::<Vec<_>>());
        }
        complete.truncated = true;
        Ok(complete)
    }
}

impl CompletePullRequest {
    /// Returns a pull request with the first entries of its lists. `errors` are about parts of it.
    fn first(pull_request: GraphqlPullRequest, errors: &[&GraphqlError]) -> Self {
        let mut first = Self {
            pull_request,
            truncated: false,
            left_out: None,
        };
        first.note(errors);
        first
    }

    /// Notes errors about parts of it. A part that GitHub left out is null: a field of it is unknown,
    /// and an entry that this token may never see is no reason to do without the others.
    fn note(&mut self, errors: &[&GraphqlError]) {
        let Some(first) = errors.first() else {
            return;
        };
        self.left_out.get_or_insert_with(|| first.message.clone());
        if errors.iter().any(|error| error.is_exactly("FORBIDDEN")) {
            let reviews = self
                .pull_request
                .reviews
                .as_mut()
                .and_then(|reviews| reviews.nodes.as_mut());
            let timeline = self.pull_request.timeline_items.nodes.as_mut();
            let withheld = reviews.is_some_and(drop_null) | timeline.is_some_and(drop_null);
            self.truncated |= withheld;
        }
    }
}

/// Drops the nulls of a list. Returns true if there were any.
fn drop_null<T>(nodes: &mut Vec<Option<T>>) -> bool {
    let before = nodes.len();
    nodes.retain(Option::is_some);
    nodes.len() < before
}

fn number_of(node: &Value) -> Option<PrNumber> {
    node["number"].as_i64().map(PrNumber)
}

fn left_out() -> String {
    "GitHub left it out".to_owned()
}

fn shape(error: &serde_json::Error) -> String {
    format!("GitHub's answer has another shape: {error}")
}

/// Appends further entries. A list that GitHub left out stays left out.
fn extend<T>(known: &mut Connection<T>, more: Option<Connection<T>>) {
    if let Some(more) = more {
        known.nodes = known.nodes.take().zip(more.nodes).map(|(mut nodes, more)| {
            nodes.extend(more);
            nodes
        });
        known.page_info = more.page_info;
    }
}

/// Returns the errors of the part of a response that step `depth` of their paths names.
fn errors_of<'a>(errors: &'a [GraphqlError], depth: usize, part: &str) -> Vec<&'a GraphqlError> {
    let names = |error: &&GraphqlError| error.path.get(depth).is_some_and(|step| step == part);
    errors.iter().filter(names).collect()
}
