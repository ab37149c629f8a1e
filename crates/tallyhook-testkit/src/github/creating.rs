//! Pull requests that are opened through the API, and the reasons for refusing one.

use actix_web::http::StatusCode;
use chrono::Utc;
use serde_json::{Value, json};
use tallyhook_core::github::types::Timestamp;

use super::access::Rights;
use super::growth::people;
use super::rest::{RestAnswer, not_among_permissions};
use super::world::{Opening, PullRequest, Repository, World};
use crate::payloads::{Account, HeadRepo, objects};

impl Repository {
    /// Adds commits with these dates to a branch, which is created if it is missing; in a fork if
    /// the name is `owner:branch`.
    pub fn push(&mut self, branch: &str, commits: &[Timestamp]) {
        self.branches
            .entry(branch.to_owned())
            .or_default()
            .extend_from_slice(commits);
    }

    /// Returns the commits of a branch that the default branch does not have, or `None` if there is
    /// no such branch.
    fn commits(&self, branch: &str) -> Option<&[Timestamp]> {
        let is_default = branch == self.place.default_branch;
        self.branches
            .get(branch)
            .map(Vec::as_slice)
            .or(is_default.then_some(&[]))
    }

    /// Resolves `owner:branch` to the name of the branch here, and to its repository.
    fn resolve<'a>(&self, head: &'a str) -> (&'a str, HeadRepo) {
        match head.split_once(':') {
            Some((owner, _)) if !owner.eq_ignore_ascii_case(&self.place.owner.login) => (
                head,
                HeadRepo::Fork {
                    owner: Account::contributor(900_000_020, owner),
                    id: 900_000_021,
                },
            ),
            Some((_, branch)) => (branch, HeadRepo::Same),
            None => (head, HeadRepo::Same),
        }
    }
}

impl PullRequest {
    /// Returns true if the pull request matches `head` and `base` of a list's query.
    pub(super) fn is_between(&self, head: Option<&str>, base: Option<&str>) -> bool {
        let simple = objects::simple_pull_request(&self.pr);
        // GitHub ignores a `head` that is not `owner:branch`.
        let head = head.filter(|head| head.contains(':'));
        head.is_none_or(|head| {
            simple["head"]["label"]
                .as_str()
                .unwrap()
                .eq_ignore_ascii_case(head)
        }) && base.is_none_or(|base| self.pr.base_ref == base)
    }
}

impl World {
    /// Opens the pull request that `body` describes, or answers with the reason against it.
    pub(super) fn create_pull(
        &mut self,
        full_name: &str,
        rights: Rights,
        body: &[u8],
    ) -> RestAnswer {
        let wanted: Value = serde_json::from_slice(body).unwrap_or_default();
        let repository = self.repository(full_name);
        if let Some(refused) = refusal(repository, rights, &wanted) {
            return refused;
        }
        let text = |field: &str| wanted[field].as_str().unwrap_or_default();
        let (head, base) = (text("head"), text("base"));
        let (branch, head_repo) = repository.resolve(head);
        let commits: Vec<_> = repository
            .commits(branch)
            .unwrap()
            .iter()
            .map(|&at| (at, at))
            .collect();
        let opening = Opening {
            author: &people()[0],
            title: text("title"),
            branch: branch.rsplit(':').next().unwrap(),
            head_repo,
            draft: wanted["draft"] == true,
            at: Timestamp::from(Utc::now()),
            commits: &commits,
        };
        let (number, _) = self.open(full_name, &opening);
        let pull = self.repository(full_name).pulls.get_mut(&number).unwrap();
        base.clone_into(&mut pull.pr.base_ref);
        pull.pr.body = wanted["body"].as_str().map(str::to_owned);
        RestAnswer {
            status: StatusCode::CREATED,
            ..objects::pull_request(&pull.pr).into()
        }
    }
}

fn refusal(of: &Repository, rights: Rights, wanted: &Value) -> Option<RestAnswer> {
    match rights {
        Rights::Admin => {}
        Rights::FineGrained => return Some(not_among_permissions("pull_requests=write")),
        Rights::Read | Rights::Public => return Some(RestAnswer::missing()),
    }
    if of.archived {
        return Some(RestAnswer::problem(
            StatusCode::FORBIDDEN,
            "Repository was archived so is read-only.",
        ));
    }
    let invalid = |field: &str, code: &str| {
        Some(RestAnswer::invalid(
            json!([{"resource": "PullRequest", "field": field, "code": code}]),
        ))
    };
    let custom = |message: String| {
        Some(RestAnswer::invalid(
            json!([{"resource": "PullRequest", "code": "custom", "message": message}]),
        ))
    };
    let text = |field: &str| wanted[field].as_str().filter(|text| !text.is_empty());
    let Some(title) = text("title") else {
        return invalid("title", "missing_field");
    };
    if title.chars().count() > 256 {
        let message = "title is too long (maximum is 256 characters)";
        let error = json!([{"resource": "PullRequest", "field": "title", "code": "custom", "message": message}]);
        return Some(RestAnswer::invalid(error));
    }
    let (head, base) = (
        text("head").unwrap_or_default(),
        text("base").unwrap_or_default(),
    );
    let (branch, _) = of.resolve(head);
    let Some(base_commits) = of.commits(base) else {
        return invalid("base", "invalid");
    };
    let Some(commits) = of.commits(branch) else {
        return invalid("head", "invalid");
    };
    if commits.iter().all(|commit| base_commits.contains(commit)) {
        return custom(format!("No commits between {base} and {branch}"));
    }
    let label = if head.contains(':') {
        head.to_owned()
    } else {
        format!("{}:{head}", of.place.owner.login)
    };
    if of
        .pulls
        .values()
        .any(|pull| pull.is_open() && pull.is_between(Some(&label), Some(base)))
    {
        return custom(format!("A pull request already exists for {label}."));
    }
    if of.without_drafts && wanted["draft"] == true {
        let message = "Draft pull requests are not supported in this repository.";
        return Some(RestAnswer::problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            message,
        ));
    }
    None
}
