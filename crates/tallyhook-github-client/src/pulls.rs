//! Pull requests: which of them changed, and all of them that there is to know.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tallyhook_core::github::graphql::{
    self, Connection, More, Number, PageInfo, PullRequest, Repository, RepositoryPage,
};
use tallyhook_core::github::types::{PrNumber, RepoId, Timestamp};

use super::{Client, Conditional, GithubError, Graphql, GraphqlError, Result};

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
    base: ListedBase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct ListedBase {
    repo: ListedRepository,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct ListedRepository {
    id: RepoId,
}

impl Listed {
    /// Of which repository it is.
    pub fn repo(&self) -> RepoId {
        self.base.repo.id
    }
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
    /// GitHub says that there is none.
    pub missing: bool,
}

impl NotGot {
    fn of(number: PrNumber, why: String) -> Self {
        Self {
            number,
            why,
            missing: false,
        }
    }
}

/// Pull requests of one repository.
#[derive(Clone, Debug)]
pub struct Got {
    pub repository: Repository,
    /// In the order of the answer.
    pub whole: Vec<Whole>,
    pub not_got: Vec<NotGot>,
    /// A moment by GitHub's clock before which it did not look.
    pub asked_at: DateTime<Utc>,
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

/// What was told of a repository.
struct Told<T> {
    repository: T,
    errors: Vec<GraphqlError>,
    asked_at: DateTime<Utc>,
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
        let path = format!(
            "/repos/{of}/pulls?state=all&sort=updated&direction=desc&per_page={LISTED}&page={page}"
        );
        self.get_conditional(&path).await
    }

    /// What the list shows of one pull request; for nothing if it is as it was.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do.
    pub async fn listed(&self, of: &str, number: PrNumber) -> Result<Listed> {
        let answer: Conditional<Listed> = self
            .get_conditional(&format!("/repos/{of}/pulls/{number}"))
            .await?;
        Ok(answer.value)
    }

    /// `first` whole pull requests of `of`, after the cursor `after`, with the dates of their commits if `commits`.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do; of [`GithubError::TooMuch`], that less is to be asked for at once.
    pub async fn page(
        &self,
        of: &str,
        first: u32,
        after: Option<&str>,
        commits: bool,
    ) -> Result<GotPage> {
        let variables = json!({"first": first, "after": after});
        let query = graphql::page();
        let Told {
            repository: page,
            errors,
            asked_at,
        } = self
            .of_repository::<RepositoryPage<Value>>(of, &query, variables.clone(), commits, PLACE)
            .await?;
        let Connection {
            total_count: total,
            page_info,
            nodes,
        } = page.pull_requests;
        let mut got = Got {
            repository: page.repository,
            whole: Vec::new(),
            not_got: Vec::new(),
            asked_at,
        };
        let mut gaps = Vec::new();
        for (place, node) in nodes.unwrap_or_default().into_iter().enumerate() {
            let number = node
                .as_ref()
                .and_then(|node| node["number"].as_i64())
                .map(PrNumber);
            let why =
                error_of(&errors, PLACE, &place.to_string()).map(|error| error.message.clone());
            let parsed = node.map(serde_json::from_value::<PullRequest>);
            match (parsed, number, why) {
                (Some(Ok(pull_request)), _, None) => {
                    self.complete(of, pull_request, commits, &mut got).await?
                }
                (Some(Err(error)), Some(number), None) => {
                    got.not_got.push(NotGot::of(number, shape(&error)))
                }
                (_, Some(number), why) => got
                    .not_got
                    .push(NotGot::of(number, why.unwrap_or_else(left_out))),
                (_, None, why) => gaps.push(why.unwrap_or_else(left_out)),
            }
        }
        if !gaps.is_empty() {
            self.name_gaps(of, variables, gaps, &mut got).await?;
        }
        Ok(GotPage {
            got,
            total,
            next: page_info.next().map(str::to_owned),
        })
    }

    /// The page that [`Client::page`] gives, of which nothing but the numbers can be had.
    ///
    /// # Errors
    /// As of [`Client::page`].
    pub async fn passed_over(&self, of: &str, first: u32, after: Option<&str>) -> Result<GotPage> {
        let (
            Told {
                repository: page,
                asked_at,
                ..
            },
            numbers,
        ) = self
            .numbers(of, json!({"first": first, "after": after}))
            .await?;
        let why = "GitHub takes too long for it";
        let not_got = numbers
            .into_iter()
            .map(|number| NotGot::of(number, why.to_owned()))
            .collect();
        let got = Got {
            repository: page.repository,
            whole: Vec::new(),
            not_got,
            asked_at,
        };
        let Connection {
            total_count: total,
            page_info,
            ..
        } = page.pull_requests;
        Ok(GotPage {
            got,
            total,
            next: page_info.next().map(str::to_owned),
        })
    }

    /// Tells which pull requests are missing on a page: those that it has and that were not told of.
    async fn name_gaps(
        &self,
        of: &str,
        variables: Value,
        gaps: Vec<String>,
        got: &mut Got,
    ) -> Result<()> {
        let (_, mut numbers) = self.numbers(of, variables).await?;
        let told: BTreeSet<_> = got
            .whole
            .iter()
            .map(|whole| whole.pull_request.number)
            .chain(got.not_got.iter().map(|not_got| not_got.number))
            .collect();
        numbers.retain(|number| !told.contains(number));
        if numbers.len() != gaps.len() {
            // Something moved in between. Whoever asks again finds it as it is then.
            let reason = "a page changed while it was read".to_owned();
            return Err(GithubError::TooMuch {
                path: of.to_owned(),
                reason,
            });
        }
        got.not_got.extend(
            numbers
                .into_iter()
                .zip(gaps)
                .map(|(number, why)| NotGot::of(number, why)),
        );
        Ok(())
    }

    async fn numbers(
        &self,
        of: &str,
        variables: Value,
    ) -> Result<(Told<RepositoryPage<Number>>, Vec<PrNumber>)> {
        let mut told: Told<RepositoryPage<Number>> = self
            .of_repository(of, graphql::NUMBERS, variables, false, PLACE)
            .await?;
        let nodes = told
            .repository
            .pull_requests
            .nodes
            .take()
            .unwrap_or_default();
        Ok((
            told,
            nodes
                .into_iter()
                .flatten()
                .map(|node| node.number)
                .collect(),
        ))
    }

    /// The whole pull requests of `of` that have these numbers.
    ///
    /// # Errors
    /// [`GithubError`], which tells what to do; of [`GithubError::TooMuch`], that less is to be asked for at once. One that
    /// is not there is no error, but not got.
    pub async fn numbered(&self, of: &str, numbers: &[PrNumber], commits: bool) -> Result<Got> {
        let query = graphql::numbered(numbers);
        let Told {
            repository:
                Numbered {
                    repository,
                    mut rest,
                },
            errors,
            asked_at,
        } = self
            .of_repository(of, &query, json!({}), commits, ALIAS)
            .await?;
        let mut got = Got {
            repository,
            whole: Vec::with_capacity(numbers.len()),
            not_got: Vec::new(),
            asked_at,
        };
        for number in numbers {
            let alias = graphql::alias(*number);
            let why = error_of(&errors, ALIAS, &alias);
            let node = rest
                .remove(&alias)
                .map(serde_json::from_value::<Option<PullRequest>>);
            match (node, why) {
                (Some(Ok(Some(pull_request))), None) => {
                    self.complete(of, pull_request, commits, &mut got).await?
                }
                (Some(Err(error)), None) => got.not_got.push(NotGot::of(*number, shape(&error))),
                (_, Some(error)) => {
                    let missing = error.kind.as_deref() == Some("NOT_FOUND");
                    got.not_got.push(NotGot {
                        number: *number,
                        why: error.message.clone(),
                        missing,
                    });
                }
                (_, None) => {
                    let why = "GitHub has no such pull request".to_owned();
                    got.not_got.push(NotGot {
                        number: *number,
                        why,
                        missing: true,
                    });
                }
            }
        }
        Ok(got)
    }

    /// What a query about one repository tells of it. An error that is of none of its parts, which are `depth` steps deep,
    /// is of all of them.
    async fn of_repository<T: DeserializeOwned>(
        &self,
        of: &str,
        query: &str,
        mut variables: Value,
        commits: bool,
        depth: usize,
    ) -> Result<Told<T>> {
        let (owner, name) = of.split_once('/').unwrap_or((of, ""));
        variables["owner"] = owner.into();
        variables["name"] = name.into();
        variables["commits"] = if commits { graphql::COMMITS } else { 1 }.into();
        let told = self.about(of, query, &variables).await?;
        match told.errors.iter().find(|error| error.path.len() <= depth) {
            Some(error) => Err(GithubError::TooMuch {
                path: of.to_owned(),
                reason: error.message.clone(),
            }),
            None => Ok(told),
        }
    }

    async fn about<T: DeserializeOwned>(
        &self,
        of: &str,
        query: &str,
        variables: &Value,
    ) -> Result<Told<T>> {
        let Graphql {
            data,
            errors,
            asked_at,
        } = self.graphql::<Answer<T>>(query, variables, of).await?;
        match data.and_then(|data| data.repository) {
            Some(repository) => Ok(Told {
                repository,
                errors,
                asked_at,
            }),
            None => Err(GithubError::NotFound {
                path: format!("repository {of}"),
            }),
        }
    }

    /// Pages through what is left of a pull request's lists. One that fails for itself is not got.
    async fn complete(
        &self,
        of: &str,
        pull_request: PullRequest,
        commits: bool,
        got: &mut Got,
    ) -> Result<()> {
        let number = pull_request.number;
        match self.completed(of, pull_request, commits).await {
            Ok(whole) => got.whole.push(whole),
            Err(error) if error.is_about_one() => {
                got.not_got.push(NotGot::of(number, error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn completed(
        &self,
        of: &str,
        mut pull_request: PullRequest,
        commits: bool,
    ) -> Result<Whole> {
        let query = graphql::more();
        for _ in 0..MORE {
            let reviews = pull_request
                .reviews
                .as_ref()
                .and_then(|reviews| reviews.page_info.next());
            let history = Some(&pull_request.commits.page_info)
                .filter(|_| commits)
                .and_then(PageInfo::next);
            let timeline = pull_request.timeline_items.page_info.next();
            if reviews.is_none() && history.is_none() && timeline.is_none() {
                return Ok(Whole {
                    pull_request,
                    truncated: false,
                });
            }
            let (owner, name) = of.split_once('/').unwrap_or((of, ""));
            let variables = json!({
                "owner": owner, "name": name, "number": pull_request.number,
                "reviews": reviews.is_some(), "reviewsAfter": reviews,
                "commits": history.is_some(), "commitsAfter": history,
                "timeline": timeline.is_some(), "timelineAfter": timeline,
            });
            let Told {
                repository: page,
                errors,
                ..
            } = self.about::<MorePage>(of, &query, &variables).await?;
            let Some(more) = page.pull_request.filter(|_| errors.is_empty()) else {
                let reason = errors
                    .first()
                    .map_or("GitHub left out what follows", |error| {
                        error.message.as_str()
                    });
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
        Ok(Whole {
            pull_request,
            truncated: true,
        })
    }
}

fn left_out() -> String {
    "GitHub left it out".to_owned()
}

fn shape(error: &serde_json::Error) -> String {
    format!("GitHub's answer has another shape: {error}")
}

/// A part that was left out leaves the whole out.
fn extend<T>(known: &mut Connection<T>, more: Option<Connection<T>>) {
    if let Some(more) = more {
        known.nodes = known.nodes.take().zip(more.nodes).map(|(mut nodes, more)| {
            nodes.extend(more);
            nodes
        });
        known.page_info = more.page_info;
    }
}

/// What went wrong with the part of an answer that `part`, step `depth` of its path, names.
fn error_of<'a>(errors: &'a [GraphqlError], depth: usize, part: &str) -> Option<&'a GraphqlError> {
    errors
        .iter()
        .find(|error| error.path.get(depth).is_some_and(|step| step == part))
}
