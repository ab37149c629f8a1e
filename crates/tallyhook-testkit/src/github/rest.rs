//! GitHub's REST API over the world, as far as repositories and pull requests go.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, LINK, LOCATION};
use actix_web::web::Query;
use serde_json::{Value, json};

use super::access::Rights;
use super::world::{Commit, PullRequest, Repository, World};
use crate::payloads::{objects, sha};

/// A response without the headers that all responses share.
pub(super) struct RestAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) value: Value,
}

impl From<Value> for RestAnswer {
    fn from(value: Value) -> Self {
        Self {
            status: StatusCode::OK,
            headers: Vec::new(),
            value,
        }
    }
}

impl RestAnswer {
    pub(super) fn problem(status: StatusCode, message: &str) -> Self {
        let value = json!({
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": status.as_str(),
        });
        Self {
            status,
            ..value.into()
        }
    }

    pub(super) fn missing() -> Self {
        Self::problem(StatusCode::NOT_FOUND, "Not Found")
    }

    pub(super) fn invalid(errors: Value) -> Self {
        let mut answer = Self::problem(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed");
        answer.value["errors"] = errors;
        answer
    }
}

/// The query parameters of a request.
pub(super) struct Parameters(Query<Vec<(String, String)>>);

impl Parameters {
    pub(super) fn of(request: &HttpRequest) -> Self {
        Self(Query::from_query(request.query_string()).unwrap())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn per_page(&self) -> usize {
        self.get("per_page")
            .map_or(30, |number| number.parse().unwrap())
            .clamp(1, 100)
    }
}

impl World {
    /// Answers a request of a token with these rights.
    pub(super) fn answer(
        &mut self,
        rights: Rights,
        request: &HttpRequest,
        body: &[u8],
    ) -> RestAnswer {
        let path = request.path().trim_matches('/');
        if let Some(moved) = self.moved(path, request.query_string()) {
            return moved;
        }
        let path = self.by_name(path);
        let parts: Vec<_> = path.split('/').collect();
        match &parts[..] {
            ["echo"] => serde_json::from_slice::<Value>(body)
                .unwrap_or_default()
                .into(),
            ["app", "hook", rest @ ..] => {
                self.answer_hooks("app", &[&["0"], rest].concat(), request, body)
            }
            [kind @ ("repos" | "orgs"), rest @ ..] => {
                let names = if *kind == "repos" { 2 } else { 1 };
                let Some((names, rest)) = rest.split_at_checked(names) else {
                    return RestAnswer::missing();
                };
                let owner = format!("{kind}/{}", names.join("/"));
                match rest {
                    ["hooks", rest @ ..] => match rights {
                        Rights::Admin => self.answer_hooks(&owner, rest, request, body),
                        Rights::FineGrained => not_among_permissions("repository_hooks=write"),
                        Rights::Read | Rights::Public => RestAnswer::missing(),
                    },
                    _ => match self.find(&names.join("/")) {
                        Some(found) if rights != Rights::Public || !found.place.private => {
                            match rest {
                                ["pulls"] if request.method() == "POST" => {
                                    self.create_pull(&found.place.full_name(), rights, body)
                                }
                                _ => self.answer_repository(found, rights, rest, request),
                            }
                        }
                        _ => RestAnswer::missing(),
                    },
                }
            }
            _ => RestAnswer::missing(),
        }
    }

    /// Redirects a former name to the repository by its id, as GitHub does.
    fn moved(&self, path: &str, query: &str) -> Option<RestAnswer> {
        let (owner, rest) = path.strip_prefix("repos/")?.split_once('/')?;
        let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let full_name = format!("{owner}/{name}");
        let found = self
            .formerly(&full_name)
            .filter(|_| self.find(&full_name).is_none())?;
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{query}")
        };
        let url = format!(
            "{}/repositories/{}{rest}{query}",
            self.url, found.place.repo_id
        );
        let value = json!({
            "message": "Moved Permanently",
            "url": url,
            "documentation_url": "https://docs.github.com/rest",
        });
        Some(RestAnswer {
            status: StatusCode::MOVED_PERMANENTLY,
            headers: vec![(LOCATION, url)],
            value,
        })
    }

    /// Rewrites `repositories/ID/...` to the name of the repository.
    fn by_name(&self, path: &str) -> String {
        let named = path.strip_prefix("repositories/").and_then(|rest| {
            let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let found = self
                .repositories
                .iter()
                .find(|known| known.place.repo_id.to_string() == id)?;
            Some(
                format!("repos/{}/{rest}", found.place.full_name())
                    .trim_end_matches('/')
                    .to_owned(),
            )
        });
        named.unwrap_or_else(|| path.to_owned())
    }

    fn answer_repository(
        &self,
        of: &Repository,
        rights: Rights,
        rest: &[&str],
        request: &HttpRequest,
    ) -> RestAnswer {
        if request.method() != "GET" {
            return RestAnswer::missing();
        }
        let pull = |number: &str| of.pulls.get(&number.parse().ok()?);
        match rest {
            [] => repository(of, rights).into(),
            ["pulls"] => self.pulls(of, request),
            ["pulls", number] => pull(number).map_or_else(RestAnswer::missing, |pull| {
                objects::pull_request(&pull.pr).into()
            }),
            ["pulls", number, list] => match (pull(number), *list) {
                (Some(pull), "reviews") => {
                    let reviews = pull.reviews.iter().map(|review| {
                        let mut answer = objects::review(&pull.pr, review);
                        answer["state"] = review.state.to_uppercase().into();
                        // REST has a text where webhooks have null.
                        answer["body"] = review.body.as_deref().unwrap_or_default().into();
                        answer
                    });
                    self.listed(of, request, &reviews.collect::<Vec<_>>())
                }
                // The maximum that GitHub lists.
                (Some(pull), "commits") => {
                    let commits = pull.commits.iter().take(250).map(|one| commit(pull, one));
                    self.listed(of, request, &commits.collect::<Vec<_>>())
                }
                (Some(pull), "comments") => {
                    let comments = pull
                        .inline
                        .iter()
                        .map(|comment| objects::review_comment(&pull.pr, comment));
                    self.listed(of, request, &comments.collect::<Vec<_>>())
                }
                _ => RestAnswer::missing(),
            },
            _ => RestAnswer::missing(),
        }
    }

    fn pulls(&self, of: &Repository, request: &HttpRequest) -> RestAnswer {
        let parameters = Parameters::of(request);
        let state = parameters.get("state").unwrap_or("open");
        if !["open", "closed", "all"].contains(&state) {
            return RestAnswer::invalid(
                json!([{"resource": "PullRequest", "field": "state", "code": "invalid"}]),
            );
        }
        let by_update = parameters.get("sort") == Some("updated");
        let descending = match parameters.get("direction") {
            Some(direction) => direction == "desc",
            None => !by_update,
        };
        let (head, base) = (parameters.get("head"), parameters.get("base"));
        let is_asked_for = |pull: &&PullRequest| {
            (state == "all" || pull.pr.state() == state) && pull.is_between(head, base)
        };
        let mut pulls: Vec<_> = of.pulls.values().filter(is_asked_for).collect();
        pulls.sort_by_key(|pull| {
            let at = if by_update {
                &pull.pr.updated_at
            } else {
                &pull.pr.created_at
            };
            (at, pull.pr.number)
        });
        if descending {
            pulls.reverse();
        }
        self.paged(of, request, &pulls, |pull| {
            objects::simple_pull_request(&pull.pr)
        })
    }

    fn listed(&self, of: &Repository, request: &HttpRequest, items: &[Value]) -> RestAnswer {
        self.paged(of, request, items, Clone::clone)
    }

    /// Answers with the requested page and links to others, which name the repository by its id, as
    /// GitHub's do.
    fn paged<T>(
        &self,
        of: &Repository,
        request: &HttpRequest,
        items: &[T],
        render: impl Fn(&T) -> Value,
    ) -> RestAnswer {
        let parameters = Parameters::of(request);
        let page: usize = parameters
            .get("page")
            .map_or(1, |page| page.parse().unwrap())
            .max(1);
        let per_page = parameters.per_page();
        let pages = items.len().div_ceil(per_page).max(1);
        let shown = items.iter().skip((page - 1) * per_page).take(per_page);
        let mut answer = RestAnswer::from(shown.map(render).collect::<Value>());
        let inside = self.by_name(request.path().trim_matches('/'));
        let inside = inside.splitn(4, '/').nth(3).unwrap().to_owned();
        let others: String = parameters
            .0
            .iter()
            .filter(|(name, _)| name != "page")
            .map(|(name, value)| format!("{name}={value}&"))
            .collect();
        let link = |to: usize, rel: &str| {
            format!(
                "<{}/repositories/{}/{inside}?{others}page={to}>; rel=\"{rel}\"",
                self.url, of.place.repo_id
            )
        };
        let mut links = Vec::new();
        if page > 1 {
            links.extend([link(page - 1, "prev"), link(1, "first")]);
        }
        if page < pages {
            links.extend([link(page + 1, "next"), link(pages, "last")]);
        }
        if !links.is_empty() {
            answer.headers.push((LINK, links.join(", ")));
        }
        answer
    }
}

pub(super) fn not_among_permissions(needed: &str) -> RestAnswer {
    let mut answer = RestAnswer::problem(
        StatusCode::FORBIDDEN,
        "Resource not accessible by personal access token",
    );
    answer.headers.push((
        HeaderName::from_static("x-accepted-github-permissions"),
        needed.to_owned(),
    ));
    answer
}

fn repository(of: &Repository, rights: Rights) -> Value {
    let mut answer = objects::repository(&of.place);
    let is_admin = rights == Rights::Admin;
    let more = json!({
        "permissions": {"admin": is_admin, "maintain": is_admin, "push": is_admin, "triage": is_admin, "pull": true},
        "archived": of.archived,
        "network_count": 3,
        "subscribers_count": 12,
    });
    objects::extend(&mut answer, more);
    answer
}

fn commit(pull: &PullRequest, commit: &Commit) -> Value {
    let repository = objects::api_repo(&pull.pr.world);
    let url = format!("{repository}/commits/{}", commit.sha);
    let person = |at| {
        let author = commit.author.as_ref()?;
        Some(json!({
            "name": author.login,
            "email": format!("{}@users.noreply.example", author.login),
            "date": at,
        }))
    };
    let tree = sha(&format!("tree/{}", commit.sha));
    json!({
        "url": url,
        "sha": commit.sha,
        "node_id": format!("C_{}", commit.sha),
        "html_url": objects::web(&format!("{}/commit/{}", pull.pr.world.full_name(), commit.sha)),
        "comments_url": format!("{url}/comments"),
        "commit": {
            "url": format!("{repository}/git/commits/{}", commit.sha),
            "author": person(commit.authored_at),
            "committer": person(commit.committed_at),
            "message": "Change the server",
            "comment_count": 0,
            "tree": {"sha": tree, "url": format!("{repository}/git/trees/{tree}")},
        },
        "author": objects::account(commit.author.as_ref()),
        "committer": objects::account(commit.author.as_ref()),
        "parents": [],
    })
}
