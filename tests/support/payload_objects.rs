//! The objects GitHub nests in its webhook payloads: accounts, repositories, pull requests, issues, reviews.
//!
//! Shapes follow GitHub's documented webhook payloads ("Webhook events and payloads" and the official REST
//! description). The same objects are what the REST API returns, so a fake GitHub can serve them too.

use serde_json::{Map, Value, json};

use super::{Account, HeadRepo, Label, Milestone, Pr, Review, ReviewComment, Team, World};

const API: &str = "https://api.github.com";
const WEB: &str = "https://github.com";

/// Link fields of an account, each relative to the account's API address.
const USER_LINKS: &[(&str, &str)] = &[
    ("followers_url", "/followers"),
    ("following_url", "/following{/other_user}"),
    ("gists_url", "/gists{/gist_id}"),
    ("starred_url", "/starred{/owner}{/repo}"),
    ("subscriptions_url", "/subscriptions"),
    ("organizations_url", "/orgs"),
    ("repos_url", "/repos"),
    ("events_url", "/events{/privacy}"),
    ("received_events_url", "/received_events"),
];

/// Link fields of an organization, each relative to the organization's API address.
const ORG_LINKS: &[(&str, &str)] = &[
    ("repos_url", "/repos"),
    ("events_url", "/events"),
    ("hooks_url", "/hooks"),
    ("issues_url", "/issues"),
    ("members_url", "/members{/member}"),
    ("public_members_url", "/public_members{/member}"),
];

/// Link fields of a repository, each relative to the repository's API address.
const REPO_LINKS: &[(&str, &str)] = &[
    ("archive_url", "/{archive_format}{/ref}"),
    ("assignees_url", "/assignees{/user}"),
    ("blobs_url", "/git/blobs{/sha}"),
    ("branches_url", "/branches{/branch}"),
    ("collaborators_url", "/collaborators{/collaborator}"),
    ("comments_url", "/comments{/number}"),
    ("commits_url", "/commits{/sha}"),
    ("compare_url", "/compare/{base}...{head}"),
    ("contents_url", "/contents/{+path}"),
    ("contributors_url", "/contributors"),
    ("deployments_url", "/deployments"),
    ("downloads_url", "/downloads"),
    ("events_url", "/events"),
    ("forks_url", "/forks"),
    ("git_commits_url", "/git/commits{/sha}"),
    ("git_refs_url", "/git/refs{/sha}"),
    ("git_tags_url", "/git/tags{/sha}"),
    ("hooks_url", "/hooks"),
    ("issue_comment_url", "/issues/comments{/number}"),
    ("issue_events_url", "/issues/events{/number}"),
    ("issues_url", "/issues{/number}"),
    ("keys_url", "/keys{/key_id}"),
    ("labels_url", "/labels{/name}"),
    ("languages_url", "/languages"),
    ("merges_url", "/merges"),
    ("milestones_url", "/milestones{/number}"),
    (
        "notifications_url",
        "/notifications{?since,all,participating}",
    ),
    ("pulls_url", "/pulls{/number}"),
    ("releases_url", "/releases{/id}"),
    ("stargazers_url", "/stargazers"),
    ("statuses_url", "/statuses/{sha}"),
    ("subscribers_url", "/subscribers"),
    ("subscription_url", "/subscription"),
    ("tags_url", "/tags"),
    ("teams_url", "/teams"),
    ("trees_url", "/git/trees{/sha}"),
];

/// An account with all its links, or `null` for a deleted one.
pub(crate) fn account(account: Option<&Account>) -> Value {
    let Some(account) = account else {
        return Value::Null;
    };
    let login = &account.login;
    let path = login.replace('[', "%5B").replace(']', "%5D");
    let fields = json!({
        "login": login,
        "id": account.id,
        "node_id": node_id("U", account.id),
        "avatar_url": format!("https://avatars.githubusercontent.com/u/{}?v=4", account.id),
        "gravatar_id": "",
        "url": format!("{API}/users/{path}"),
        "html_url": account.html_url(),
        "type": account.kind,
        "site_admin": false,
    });
    with_links(fields, &format!("{API}/users/{path}"), USER_LINKS)
}

/// The top-level `organization` of a payload.
pub(crate) fn organization(org: &Account) -> Value {
    let url = format!("{API}/orgs/{}", org.login);
    let fields = json!({
        "login": org.login,
        "id": org.id,
        "node_id": node_id("O", org.id),
        "url": url,
        "avatar_url": format!("https://avatars.githubusercontent.com/u/{}?v=4", org.id),
        "description": "",
    });
    with_links(fields, &url, ORG_LINKS)
}

/// The repository of the story.
pub(crate) fn repository(world: &World) -> Value {
    repository_of(world, &world.owner, world.repo_id, false)
}

/// A repository as a pull request's `head` or `base`; whatever the world's owner does not own is a fork.
fn pull_request_repository(world: &World, owner: &Account, id: i64) -> Value {
    repository_of(world, owner, id, owner.id != world.owner.id)
}

fn repository_of(world: &World, owner: &Account, id: i64, fork: bool) -> Value {
    let full_name = format!("{}/{}", owner.login, world.repo);
    let url = format!("{API}/repos/{full_name}");
    let mut repo = json!({
        "id": id,
        "node_id": node_id("R", id),
        "name": world.repo,
        "full_name": full_name,
        "private": world.private,
        "owner": account(Some(owner)),
        "html_url": format!("{WEB}/{full_name}"),
        "description": null,
        "fork": fork,
        "url": url,
        "created_at": world.created_at,
        "updated_at": world.updated_at,
        "pushed_at": world.updated_at,
        "git_url": format!("git://github.com/{full_name}.git"),
        "ssh_url": format!("git@github.com:{full_name}.git"),
        "clone_url": format!("{WEB}/{full_name}.git"),
        "svn_url": format!("{WEB}/{full_name}"),
        "homepage": null,
        "size": 4210,
        "default_branch": world.default_branch,
        "visibility": if world.private { "private" } else { "public" },
    });
    extend(&mut repo, repository_features());
    with_links(repo, &url, REPO_LINKS)
}

/// The counters and switches of a repository, which nothing in a story changes.
fn repository_features() -> Value {
    json!({
        "stargazers_count": 12,
        "watchers_count": 12,
        "language": "Rust",
        "has_issues": true,
        "has_projects": true,
        "has_downloads": true,
        "has_wiki": false,
        "has_pages": false,
        "has_discussions": false,
        "forks_count": 3,
        "mirror_url": null,
        "archived": false,
        "disabled": false,
        "open_issues_count": 7,
        "license": null,
        "allow_forking": true,
        "is_template": false,
        "web_commit_signoff_required": false,
        "topics": [],
        "forks": 3,
        "open_issues": 7,
        "watchers": 12,
        "custom_properties": {},
    })
}

/// The 49 keys of a pull request in `pull_request` events and of `GET /repos/{o}/{r}/pulls/{number}`.
pub(crate) fn pull_request(pr: &Pr) -> Value {
    let open = pr.closed_at.is_none();
    let mut full = simple_pull_request(pr);
    let detail = json!({
        "merged": pr.merged_at.is_some(),
        "mergeable": open.then_some(true),
        "rebaseable": open.then_some(true),
        "mergeable_state": if open { "clean" } else { "unknown" },
        "merged_by": account(pr.merged_by.as_ref()),
        "comments": pr.comments,
        "review_comments": pr.review_comments,
        "maintainer_can_modify": matches!(pr.head_repo, HeadRepo::Fork { .. }),
        "commits": pr.commits,
        "additions": pr.additions,
        "deletions": pr.deletions,
        "changed_files": pr.changed_files,
    });
    extend(&mut full, detail);
    full
}

/// The 37 keys of a pull request in review events and in pull request lists.
pub(crate) fn simple_pull_request(pr: &Pr) -> Value {
    let accounts = |list: &[Account]| list.iter().map(|a| account(Some(a))).collect::<Vec<_>>();
    let mut simple = json!({
        "id": pr.id,
        "node_id": node_id("PR", pr.id),
        "number": pr.number,
        "state": pr.state(),
        "locked": pr.locked,
        "title": pr.title,
        "user": account(pr.author.as_ref()),
        "body": pr.body,
        "created_at": pr.created_at,
        "updated_at": pr.updated_at,
        "closed_at": pr.closed_at,
        "merged_at": pr.merged_at,
        "merge_commit_sha": pr.merge_commit_sha,
        "assignee": account(pr.assignees.first()),
        "assignees": accounts(&pr.assignees),
        "requested_reviewers": accounts(&pr.requested_reviewers),
        "requested_teams": pr.requested_teams.iter().map(|t| team(&pr.world, t)).collect::<Vec<_>>(),
        "labels": pr.labels.iter().map(|l| label(&pr.world, l)).collect::<Vec<_>>(),
        "milestone": pr.milestone.as_ref().map(|m| milestone(&pr.world, m)),
        "draft": pr.draft,
        "head": head(pr),
        "base": base(pr),
        "author_association": association(pr.author.as_ref()),
        "auto_merge": auto_merge(pr),
        "active_lock_reason": null,
        "stack": null,
    });
    extend(&mut simple, pull_request_links(pr));
    simple
}

fn pull_request_links(pr: &Pr) -> Value {
    let repo = api_repo(&pr.world);
    let (html, api) = (pr.html_url(), pr.api_url());
    let issue = format!("{repo}/issues/{}", pr.number);
    let comment = format!("{repo}/pulls/comments{{/number}}");
    let statuses = format!("{repo}/statuses/{}", pr.head_sha);
    json!({
        "url": api,
        "html_url": html,
        "diff_url": format!("{html}.diff"),
        "patch_url": format!("{html}.patch"),
        "issue_url": issue,
        "commits_url": format!("{api}/commits"),
        "review_comments_url": format!("{api}/comments"),
        "review_comment_url": comment,
        "comments_url": format!("{issue}/comments"),
        "statuses_url": statuses,
        "_links": {
            "self": {"href": api},
            "html": {"href": html},
            "issue": {"href": issue},
            "comments": {"href": format!("{issue}/comments")},
            "review_comments": {"href": format!("{api}/comments")},
            "review_comment": {"href": comment},
            "commits": {"href": format!("{api}/commits")},
            "statuses": {"href": statuses},
        },
    })
}

fn head(pr: &Pr) -> Value {
    let world = &pr.world;
    let (owner, repo) = match &pr.head_repo {
        HeadRepo::Same => (
            &world.owner,
            pull_request_repository(world, &world.owner, world.repo_id),
        ),
        HeadRepo::Fork { owner, id } => (owner, pull_request_repository(world, owner, *id)),
        HeadRepo::Deleted { owner } => (owner, Value::Null),
    };
    branch(owner, &pr.head_ref, &pr.head_sha, repo)
}

fn base(pr: &Pr) -> Value {
    let world = &pr.world;
    let repo = pull_request_repository(world, &world.owner, world.repo_id);
    branch(&world.owner, &pr.base_ref, &pr.base_sha, repo)
}

fn branch(owner: &Account, name: &str, sha: &str, repo: Value) -> Value {
    let mut branch = json!({
        "label": format!("{}:{name}", owner.login),
        "ref": name,
        "sha": sha,
        "user": account(Some(owner)),
    });
    branch["repo"] = repo;
    branch
}

fn auto_merge(pr: &Pr) -> Value {
    let Some(enabled_by) = &pr.auto_merge_enabled_by else {
        return Value::Null;
    };
    json!({
        "enabled_by": account(Some(enabled_by)),
        "merge_method": "squash",
        "commit_title": format!("{} (#{})", pr.title, pr.number),
        "commit_message": "",
    })
}

/// A pull request in its second shape, the issue that `issue_comment` events carry.
pub(crate) fn issue(pr: &Pr) -> Value {
    let url = format!("{}/issues/{}", api_repo(&pr.world), pr.number);
    json!({
        "url": url,
        "repository_url": api_repo(&pr.world),
        "labels_url": format!("{url}/labels{{/name}}"),
        "comments_url": format!("{url}/comments"),
        "events_url": format!("{url}/events"),
        "html_url": pr.html_url(),
        "id": pr.issue_id,
        "node_id": node_id("PR", pr.id),
        "number": pr.number,
        "title": pr.title,
        "user": account(pr.author.as_ref()),
        "labels": pr.labels.iter().map(|l| label(&pr.world, l)).collect::<Vec<_>>(),
        "state": pr.state(),
        "locked": pr.locked,
        "assignee": account(pr.assignees.first()),
        "assignees": pr.assignees.iter().map(|a| account(Some(a))).collect::<Vec<_>>(),
        "milestone": pr.milestone.as_ref().map(|m| milestone(&pr.world, m)),
        "comments": pr.comments,
        "created_at": pr.created_at,
        "updated_at": pr.updated_at,
        "closed_at": pr.closed_at,
        "author_association": association(pr.author.as_ref()),
        "active_lock_reason": null,
        "draft": pr.draft,
        "pull_request": {
            "url": pr.api_url(),
            "html_url": pr.html_url(),
            "diff_url": format!("{}.diff", pr.html_url()),
            "patch_url": format!("{}.patch", pr.html_url()),
            "merged_at": pr.merged_at,
        },
        "body": pr.body,
        "reactions": reactions(&url),
        "timeline_url": format!("{url}/timeline"),
        "performed_via_github_app": null,
        "state_reason": null,
    })
}

/// A review as webhooks show it: `state` in lower case. The REST API has the same object in upper case.
pub(crate) fn review(pr: &Pr, review: &Review) -> Value {
    let html_url = format!("{}#pullrequestreview-{}", pr.html_url(), review.id);
    json!({
        "id": review.id,
        "node_id": node_id("PRR", review.id),
        "user": account(review.reviewer.as_ref()),
        "body": review.body,
        "commit_id": review.commit_id,
        "submitted_at": review.submitted_at,
        "state": review.state,
        "html_url": html_url,
        "pull_request_url": pr.api_url(),
        "author_association": association(review.reviewer.as_ref()),
        "_links": {
            "html": {"href": html_url},
            "pull_request": {"href": pr.api_url()},
        },
    })
}

/// An inline comment on a diff; every one belongs to a review.
pub(crate) fn review_comment(pr: &Pr, comment: &ReviewComment) -> Value {
    let url = format!("{}/pulls/comments/{}", api_repo(&pr.world), comment.id);
    let html_url = format!("{}#discussion_r{}", pr.html_url(), comment.id);
    json!({
        "url": url,
        "pull_request_review_id": comment.review_id,
        "id": comment.id,
        "node_id": node_id("PRRC", comment.id),
        "diff_hunk": "@@ -1,3 +1,4 @@\n fn main() {\n+    run();",
        "path": "src/main.rs",
        "position": null,
        "original_position": 2,
        "commit_id": pr.head_sha,
        "original_commit_id": comment.commit_id,
        "user": account(comment.author.as_ref()),
        "body": comment.body,
        "created_at": comment.created_at,
        "updated_at": comment.updated_at,
        "html_url": html_url,
        "pull_request_url": pr.api_url(),
        "author_association": association(comment.author.as_ref()),
        "_links": {
            "self": {"href": url},
            "html": {"href": html_url},
            "pull_request": {"href": pr.api_url()},
        },
        "reactions": reactions(&url),
        "start_line": null,
        "original_start_line": null,
        "start_side": null,
        "line": null,
        "original_line": 2,
        "side": "RIGHT",
        "subject_type": "line",
    })
}

pub(crate) fn label(world: &World, label: &Label) -> Value {
    json!({
        "id": label.id,
        "node_id": node_id("LA", label.id),
        "url": format!("{}/labels/{}", api_repo(world), label.name),
        "name": label.name,
        "color": "d73a4a",
        "default": false,
        "description": null,
    })
}

pub(crate) fn milestone(world: &World, milestone: &Milestone) -> Value {
    let url = format!("{}/milestones/{}", api_repo(world), milestone.number);
    json!({
        "url": url,
        "html_url": format!("{WEB}/{}/milestone/{}", world.full_name(), milestone.number),
        "labels_url": format!("{url}/labels"),
        "id": milestone.id,
        "node_id": node_id("MI", milestone.id),
        "number": milestone.number,
        "title": milestone.title,
        "description": null,
        "creator": account(Some(&milestone.creator)),
        "open_issues": 4,
        "closed_issues": 2,
        "state": "open",
        "created_at": milestone.created_at,
        "updated_at": milestone.created_at,
        "due_on": null,
        "closed_at": null,
    })
}

pub(crate) fn team(world: &World, team: &Team) -> Value {
    let org = &world.owner;
    let url = format!("{API}/organizations/{}/team/{}", org.id, team.id);
    json!({
        "name": team.slug,
        "id": team.id,
        "node_id": node_id("T", team.id),
        "slug": team.slug,
        "description": null,
        "privacy": "closed",
        "notification_setting": "notifications_enabled",
        "url": url,
        "html_url": format!("{WEB}/orgs/{}/teams/{}", org.login, team.slug),
        "members_url": format!("{url}/members{{/member}}"),
        "repositories_url": format!("{url}/repos"),
        "type": "organization",
        "organization_id": org.id,
        "permission": "push",
        "parent": null,
    })
}

pub(crate) fn reactions(of: &str) -> Value {
    json!({
        "url": format!("{of}/reactions"),
        "total_count": 0,
        "+1": 0,
        "-1": 0,
        "laugh": 0,
        "hooray": 0,
        "confused": 0,
        "heart": 0,
        "rocket": 0,
        "eyes": 0,
    })
}

/// `author_association` of an account; a deleted one has none.
pub(crate) fn association(account: Option<&Account>) -> &'static str {
    account.map_or("NONE", |account| account.association)
}

/// The API address of the repository.
pub(crate) fn api_repo(world: &World) -> String {
    format!("{API}/repos/{}", world.full_name())
}

/// The address of an account or repository path on the web.
pub(crate) fn web(path: &str) -> String {
    format!("{WEB}/{path}")
}

/// An opaque id of the shape GitHub uses today: a type prefix and some letters.
pub(crate) fn node_id(kind: &str, id: i64) -> String {
    format!("{kind}_kwDO{id:012X}")
}

/// Adds the fields of the object `more`, replacing equal names.
pub(crate) fn extend(object: &mut Value, more: Value) {
    let (Value::Object(object), Value::Object(more)) = (object, more) else {
        panic!("only objects can be extended");
    };
    object.extend(more);
}

fn with_links(mut object: Value, base: &str, links: &[(&str, &str)]) -> Value {
    let links: Map<String, Value> = links
        .iter()
        .map(|(key, path)| ((*key).to_owned(), format!("{base}{path}").into()))
        .collect();
    extend(&mut object, Value::Object(links));
    object
}
