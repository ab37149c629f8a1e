//! Pull requests: which of them changed, and all of them that there is to know.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, Conditional, GithubError, Graphql, GraphqlError, Result};
use crate::github::graphql::{self, Connection, More, PageInfo, PullRequest, Repository, RepositoryPage};
use crate::github::types::{PrNumber, Timestamp};

/// A page of the list of what changed; the most that GitHub gives at once.
pub const LISTED: usize = 100;
/// Further pages of one pull request's lists: what is longer than a few thousand entries is cut off, and said to be.
const MORE: usize = 20;
/// Where an error's path has the place in a page, `repository.pullRequests.nodes.PLACE`, and the alias, `repository.ALIAS`.
const PLACE: usize = 3;
const ALIAS: usize = 1;

/// A pull request of the list: enough to tell whether it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Listed {
    pub number: PrNumber,
    pub updated_at: Timestamp,
}

/// A pull request with all of its lists, as far as they go.
#[derive(Clone, Debug)]
pub struct Whole {
    pub pull_request: PullRequest,
    /// There is more of it than anybody pages through.
    pub truncated: bool,
}

/// One that could not be had, and why. Its neighbours could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotGot {
    pub number: PrNumber,
    pub why: String,
}

/// Pull requests of one repository.
#[derive(Clone, Debug)]
pub struct Got {
    pub repository: Repository,
    /// In the order of the answer.
    pub whole: Vec<Whole>,
    pub not_got: Vec<NotGot>,
}

/// A page of them, latest update first.
#[derive(Clone, Debug)]
pub struct GotPage {
    pub got: Got,
    /// How many the repository has.
    pub total: Option<u64>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Answer<T> {
    repository: Option<T>,
}

#[derive(Deserialize)]
struct Numbered {
    #[serde(flatten)]
    repository: Repository,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MorePage {
    pull_request: Option<More>,
}

impl Client {
    /// The `page`th hundred (from 1 on) of a repository's pull requests, latest update first; for nothing if it is as it
    /// was.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do.
    pub async fn changed(&self, of: &str, page: usize) -> Result<Conditional<Vec<Listed>>> {
        let path = format!("/repos/{of}/pulls?state=all&sort=updated&direction=desc&per_page={LISTED}&page={page}");
        self.get_conditional(&path).await
    }

    /// Whether a pull request is as it was when this client asked last: costs nothing if so.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do.
    pub async fn is_unchanged(&self, of: &str, number: PrNumber) -> Result<bool> {
        let answer: Conditional<Listed> = self.get_conditional(&format!("/repos/{of}/pulls/{number}")).await?;
        Ok(answer.unchanged)
    }

    /// `first` whole pull requests of `of`, after the cursor `after`, with the dates of their commits if `commits`.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do; of [`GithubError::TooMuch`], that less is to be asked for at once.
    pub async fn page(&self, of: &str, first: u32, after: Option<&str>, commits: bool) -> Result<GotPage> {
        let variables = json!({"first": first, "after": after});
        let query = graphql::page();
        let (page, errors): (RepositoryPage, _) = self.of_repository(of, &query, variables.clone(), commits).await?;
        let Connection { total_count: total, page_info, nodes } = page.pull_requests;
        let numbers = if nodes.iter().any(Option::is_none) { self.numbers(of, variables).await? } else { Vec::new() };
        let mut got = Got { repository: page.repository, whole: Vec::with_capacity(nodes.len()), not_got: Vec::new() };
        for (place, node) in nodes.into_iter().enumerate() {
            let why = error_of(&errors, PLACE, &place.to_string());
            let number = node.as_ref().map(|node| node.number).or_else(|| numbers.get(place).copied());
            match (node, number, why) {
                (Some(pull_request), _, None) => self.complete(of, pull_request, commits, &mut got).await?,
                (_, Some(number), why) => got.not_got.push(NotGot { number, why: why.unwrap_or_else(left_out) }),
                (_, None, why) => {
                    let reason = why.unwrap_or_else(left_out);
                    return Err(GithubError::Unexpected { path: format!("a pull request of {of}"), reason });
                }
            }
        }
        Ok(GotPage { got, total, next: page_info.next().map(str::to_owned) })
    }

    /// Which pull requests are on a page that came with gaps.
    async fn numbers(&self, of: &str, variables: Value) -> Result<Vec<PrNumber>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            pull_requests: Nodes,
        }
        #[derive(Deserialize)]
        struct Nodes {
            nodes: Vec<Number>,
        }
        #[derive(Deserialize)]
        struct Number {
            number: PrNumber,
        }
        let (page, _): (Page, _) = self.of_repository(of, graphql::NUMBERS, variables, false).await?;
        Ok(page.pull_requests.nodes.into_iter().map(|node| node.number).collect())
    }

    /// The whole pull requests of `of` that have these numbers.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do; of [`GithubError::TooMuch`], that less is to be asked for at once. One that
    /// is not there is no error, but not got.
    pub async fn numbered(&self, of: &str, numbers: &[PrNumber], commits: bool) -> Result<Got> {
        let query = graphql::numbered(numbers);
        let (answer, errors): (Numbered, _) = self.of_repository(of, &query, json!({}), commits).await?;
        let Numbered { repository, mut rest } = answer;
        let mut got = Got { repository, whole: Vec::with_capacity(numbers.len()), not_got: Vec::new() };
        for number in numbers {
            let alias = graphql::alias(*number);
            let why = error_of(&errors, ALIAS, &alias);
            let node = rest.remove(&alias).map(serde_json::from_value::<Option<PullRequest>>);
            match (node, why) {
                (Some(Ok(Some(pull_request))), None) => self.complete(of, pull_request, commits, &mut got).await?,
                (Some(Err(error)), None) => got
                    .not_got
                    .push(NotGot { number: *number, why: format!("GitHub's answer has another shape: {error}") }),
                (_, why) => got.not_got.push(NotGot {
                    number: *number,
                    why: why.unwrap_or_else(|| "GitHub has no such pull request".to_owned()),
                }),
            }
        }
        Ok(got)
    }

    /// What a query about one repository tells of it, with the errors beside it.
    async fn of_repository<T: DeserializeOwned>(
        &self,
        of: &str,
        query: &str,
        mut variables: Value,
        commits: bool,
    ) -> Result<(T, Vec<GraphqlError>)> {
        let (owner, name) = of.split_once('/').unwrap_or((of, ""));
        variables["owner"] = owner.into();
        variables["name"] = name.into();
        variables["commits"] = if commits { graphql::COMMITS } else { 1 }.into();
        self.about(of, query, &variables).await
    }

    async fn about<T: DeserializeOwned>(
        &self,
        of: &str,
        query: &str,
        variables: &Value,
    ) -> Result<(T, Vec<GraphqlError>)> {
        let Graphql { data, errors } = self.graphql::<Answer<T>>(query, variables, of).await?;
        match data.and_then(|data| data.repository) {
            Some(repository) => Ok((repository, errors)),
            None => Err(GithubError::NotFound { path: format!("repository {of}") }),
        }
    }

    /// Pages through what is left of a pull request's lists. One that fails for itself is not got.
    async fn complete(&self, of: &str, pull_request: PullRequest, commits: bool, got: &mut Got) -> Result<()> {
        let number = pull_request.number;
        match self.completed(of, pull_request, commits).await {
            Ok(whole) => got.whole.push(whole),
            Err(error) if error.is_about_one() => {
                got.not_got.push(NotGot { number, why: error.to_string() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn completed(&self, of: &str, mut pull_request: PullRequest, commits: bool) -> Result<Whole> {
        let query = graphql::more();
        for _ in 0..MORE {
            let reviews = pull_request.reviews.as_ref().and_then(|reviews| reviews.page_info.next());
            let history = Some(&pull_request.commits.page_info).filter(|_| commits).and_then(PageInfo::next);
            let timeline = pull_request.timeline_items.page_info.next();
            if reviews.is_none() && history.is_none() && timeline.is_none() {
                return Ok(Whole { pull_request, truncated: false });
            }
            let (owner, name) = of.split_once('/').unwrap_or((of, ""));
            let variables = json!({
                "owner": owner, "name": name, "number": pull_request.number,
                "reviews": reviews.is_some(), "reviewsAfter": reviews,
                "commits": history.is_some(), "commitsAfter": history,
                "timeline": timeline.is_some(), "timelineAfter": timeline,
            });
            let (page, errors): (MorePage, _) = self.about(of, &query, &variables).await?;
            let Some(more) = page.pull_request.filter(|_| errors.is_empty()) else {
                let reason = errors.first().map_or("GitHub left out what follows", |error| error.message.as_str());
                return Err(GithubError::Unexpected {
                    path: format!("{of}#{}", pull_request.number),
                    reason: reason.to_owned(),
                });
            };
            if let Some(known) = &mut pull_request.reviews {
                extend(known, more.reviews);
            }
            extend(&mut pull_request.commits, more.commits);
            extend(&mut pull_request.timeline_items, more.timeline_items);
        }
        Ok(Whole { pull_request, truncated: true })
    }
}

fn left_out() -> String {
    "GitHub left it out".to_owned()
}

fn extend<T>(known: &mut Connection<T>, more: Option<Connection<T>>) {
    if let Some(more) = more {
        known.nodes.extend(more.nodes);
        known.page_info = more.page_info;
    }
}

/// What went wrong with the part of an answer that `part`, step `depth` of its path, names.
fn error_of(errors: &[GraphqlError], depth: usize, part: &str) -> Option<String> {
    let of_part = |error: &&GraphqlError| error.path.get(depth).is_some_and(|step| step == part);
    errors.iter().find(of_part).map(|error| error.message.clone())
}
