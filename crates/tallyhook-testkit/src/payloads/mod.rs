//! GitHub webhook payloads, built from plain state.
//!
//! A test keeps a [`Pr`] and moves it through time with its methods (`push`, `merge`, ...); the
//! functions below render it as the payload GitHub would send at that time. Shapes are those of
//! GitHub's documentation ("Webhook events and payloads") with every field, so that a body is as
//! large as a real one:
//!
//! * `pull_request` events carry the full pull request, 49 keys;
//! * review, inline comment and thread events carry the simple one, 37 keys: nothing counted, no
//!   `merged`;
//! * `issue_comment` carries the issue face of the pull request, with `issue.pull_request` and
//!   `issue.draft`.
//!
//! Times are RFC 3339 in UTC with `Z`, to the second, as text: such texts compare like the times
//! they name. Like on GitHub every action, review and comment moves `updated_at` to its own time.

use serde_json::{Value, json};

pub mod objects;

/// The placeholder that GitHub shows where an account was deleted; payloads have `null` in its
/// place, only `sender` names it.
pub const GHOST_ID: i64 = 10_137;

/// A user, bot or organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: i64,
    pub login: String,
    /// `User`, `Bot` or `Organization`.
    pub kind: &'static str,
    /// `author_association` of what this account writes.
    pub association: &'static str,
}

impl Account {
    /// A member of the organization.
    pub fn user(id: i64, login: &str) -> Self {
        Self::new(id, login.to_owned(), "User", "MEMBER")
    }

    /// A user from outside, who works in a fork.
    pub fn contributor(id: i64, login: &str) -> Self {
        Self::new(id, login.to_owned(), "User", "CONTRIBUTOR")
    }

    /// An app's account; its login is `name[bot]`.
    pub fn bot(id: i64, name: &str) -> Self {
        Self::new(id, format!("{name}[bot]"), "Bot", "NONE")
    }

    pub fn organization(id: i64, login: &str) -> Self {
        Self::new(id, login.to_owned(), "Organization", "NONE")
    }

    /// The sender of what a deleted account did.
    pub fn ghost() -> Self {
        Self::new(GHOST_ID, "ghost".to_owned(), "User", "NONE")
    }

    fn new(id: i64, login: String, kind: &'static str, association: &'static str) -> Self {
        Self {
            id,
            login,
            kind,
            association,
        }
    }

    /// The account's page; a bot's is that of its app.
    pub fn html_url(&self) -> String {
        match self.login.strip_suffix("[bot]") {
            Some(app) => objects::web(&format!("apps/{app}")),
            None => objects::web(&self.login),
        }
    }
}

/// The repository in which everything happens, and its owner.
#[derive(Clone, Debug)]
pub struct World {
    pub owner: Account,
    pub repo: String,
    pub repo_id: i64,
    pub private: bool,
    pub default_branch: String,
    pub created_at: String,
    /// `updated_at` and `pushed_at` of the repository; nothing here moves them.
    pub updated_at: String,
    pub hook_id: i64,
}

impl World {
    /// The fictional `acme-corp/api-server`.
    pub fn acme() -> Self {
        Self {
            owner: Account::organization(900_000_001, "acme-corp"),
            repo: "api-server".to_owned(),
            repo_id: 1_900_000_001,
            private: false,
            default_branch: "main".to_owned(),
            created_at: "2024-05-06T08:00:00Z".to_owned(),
            updated_at: "2026-02-27T16:20:00Z".to_owned(),
            hook_id: 530_000_001,
        }
    }

    /// `owner/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner.login, self.repo)
    }
}

#[derive(Clone, Debug)]
pub struct Label {
    pub id: i64,
    pub name: String,
}

#[derive(Clone, Debug)]
pub struct Milestone {
    pub id: i64,
    pub number: i64,
    pub title: String,
    pub creator: Account,
    pub created_at: String,
}

#[derive(Clone, Debug)]
pub struct Team {
    pub id: i64,
    pub slug: String,
}

/// The repository of a pull request's branch.
#[derive(Clone, Debug)]
pub enum HeadRepo {
    Same,
    Fork {
        owner: Account,
        id: i64,
    },
    /// A fork that is gone: `head.repo` is null, `head.user` stays.
    Deleted {
        owner: Account,
    },
}

/// A pull request as it stands now. Every field is free to be set; the methods keep related fields
/// together.
#[derive(Clone, Debug)]
pub struct Pr {
    pub world: World,
    pub id: i64,
    /// The id of its issue face, which is another one.
    pub issue_id: i64,
    pub number: i64,
    /// `None`: the account was deleted.
    pub author: Option<Account>,
    pub title: String,
    pub body: Option<String>,
    pub draft: bool,
    pub locked: bool,
    pub created_at: String,
    pub updated_at: String,
    pub closed_at: Option<String>,
    pub merged_at: Option<String>,
    pub merged_by: Option<Account>,
    /// Before the merge GitHub's test merge, after it the real one.
    pub merge_commit_sha: Option<String>,
    pub auto_merge_enabled_by: Option<Account>,
    pub head_repo: HeadRepo,
    pub head_ref: String,
    pub head_sha: String,
    pub base_ref: String,
    pub base_sha: String,
    pub labels: Vec<Label>,
    pub milestone: Option<Milestone>,
    pub assignees: Vec<Account>,
    pub requested_reviewers: Vec<Account>,
    pub requested_teams: Vec<Team>,
    pub commits: i64,
    pub additions: i64,
    pub deletions: i64,
    pub changed_files: i64,
    pub comments: i64,
    pub review_comments: i64,
}

impl Pr {
    /// An open pull request that is ready for review, from a branch of the repository itself.
    pub fn new(
        world: &World,
        number: i64,
        author: Option<&Account>,
        title: &str,
        head_ref: &str,
        created_at: &str,
    ) -> Self {
        Self {
            world: world.clone(),
            id: 2_900_000_000 + number,
            issue_id: 3_900_000_000 + number,
            number,
            author: author.cloned(),
            title: title.to_owned(),
            body: Some(format!("{title}.")),
            draft: false,
            locked: false,
            created_at: created_at.to_owned(),
            updated_at: created_at.to_owned(),
            closed_at: None,
            merged_at: None,
            merged_by: None,
            merge_commit_sha: None,
            auto_merge_enabled_by: None,
            head_repo: HeadRepo::Same,
            head_ref: head_ref.to_owned(),
            head_sha: sha(&format!("{head_ref}-{number}-1")),
            base_ref: world.default_branch.clone(),
            base_sha: sha(&format!("base-{number}")),
            labels: Vec::new(),
            milestone: None,
            assignees: Vec::new(),
            requested_reviewers: Vec::new(),
            requested_teams: Vec::new(),
            commits: 1,
            additions: 42,
            deletions: 7,
            changed_files: 3,
            comments: 0,
            review_comments: 0,
        }
    }

    /// `open` or `closed`; GitHub has no third state for merged ones.
    pub fn state(&self) -> &'static str {
        if self.closed_at.is_some() {
            "closed"
        } else {
            "open"
        }
    }

    /// Sets `updated_at` to `at`.
    pub fn touch(&mut self, at: &str) {
        at.clone_into(&mut self.updated_at);
    }

    /// A new commit on the branch. Returns the head before and after it.
    pub fn push(&mut self, at: &str) -> (String, String) {
        self.touch(at);
        self.commits += 1;
        let name = format!("{}-{}-{}", self.head_ref, self.number, self.commits);
        let before = std::mem::replace(&mut self.head_sha, sha(&name));
        (before, self.head_sha.clone())
    }

    pub fn close(&mut self, at: &str) {
        self.touch(at);
        self.closed_at = Some(at.to_owned());
    }

    pub fn reopen(&mut self, at: &str) {
        self.touch(at);
        self.closed_at = None;
    }

    pub fn merge(&mut self, by: &Account, at: &str) {
        self.close(at);
        self.merged_at = Some(at.to_owned());
        self.merged_by = Some(by.clone());
        self.merge_commit_sha = Some(sha(&format!("merge-{}", self.number)));
    }

    pub fn html_url(&self) -> String {
        objects::web(&format!("{}/pull/{}", self.world.full_name(), self.number))
    }

    pub fn api_url(&self) -> String {
        format!("{}/pulls/{}", objects::api_repo(&self.world), self.number)
    }
}

/// A submitted review.
#[derive(Clone, Debug)]
pub struct Review {
    pub id: i64,
    /// `None`: the account was deleted.
    pub reviewer: Option<Account>,
    /// `approved`, `changes_requested`, `commented` or `dismissed`.
    pub state: String,
    pub body: Option<String>,
    pub commit_id: String,
    pub submitted_at: String,
}

/// An inline comment; it can have been written some time before its review was submitted.
#[derive(Clone, Debug)]
pub struct ReviewComment {
    pub id: i64,
    pub review_id: i64,
    pub author: Option<Account>,
    pub body: String,
    /// The head at which it was written.
    pub commit_id: String,
    pub created_at: String,
    pub updated_at: String,
}

/// A comment in the conversation of a pull request or issue.
#[derive(Clone, Debug)]
pub struct Comment {
    pub id: i64,
    pub author: Option<Account>,
    pub body: String,
    pub created_at: String,
}

/// A `pull_request` event. `extra` is an object with what the action adds at the top level:
/// `{"label": ..}`, `{"before": .., "after": ..}`, `{"changes": ..}`; `json!({})` for none.
pub fn pull_request_event(pr: &Pr, action: &str, sender: &Account, extra: Value) -> Value {
    let mut payload = json!({
        "action": action,
        "number": pr.number,
        "pull_request": objects::pull_request(pr),
    });
    objects::extend(&mut payload, extra);
    signed_by(payload, &pr.world, sender)
}

/// A `pull_request_review` event: `submitted`, `edited` or `dismissed`.
pub fn review_event(pr: &Pr, action: &str, review: &Review, sender: &Account) -> Value {
    let payload = json!({
        "action": action,
        "review": objects::review(pr, review),
        "pull_request": objects::simple_pull_request(pr),
    });
    signed_by(payload, &pr.world, sender)
}

/// A `pull_request_review_comment` event: `created`, `edited` or `deleted`.
pub fn review_comment_event(
    pr: &Pr,
    action: &str,
    comment: &ReviewComment,
    sender: &Account,
) -> Value {
    let payload = json!({
        "action": action,
        "comment": objects::review_comment(pr, comment),
        "pull_request": objects::simple_pull_request(pr),
    });
    signed_by(payload, &pr.world, sender)
}

/// A `pull_request_review_thread` event: `resolved` or `unresolved`.
pub fn review_thread_event(
    pr: &Pr,
    action: &str,
    comments: &[ReviewComment],
    sender: &Account,
) -> Value {
    let first = comments.first().map_or(pr.id, |comment| comment.id);
    let list: Vec<Value> = comments
        .iter()
        .map(|comment| objects::review_comment(pr, comment))
        .collect();
    let payload = json!({
        "action": action,
        "pull_request": objects::simple_pull_request(pr),
        "thread": {"node_id": objects::node_id("PRRT", first), "comments": list},
        "updated_at": pr.updated_at,
    });
    signed_by(payload, &pr.world, sender)
}

/// An `issue_comment` event of a pull request: `created`, `edited` or `deleted`.
pub fn issue_comment_event(pr: &Pr, action: &str, comment: &Comment, sender: &Account) -> Value {
    let issue = objects::issue(pr);
    let repo = objects::api_repo(&pr.world);
    let url = format!("{repo}/issues/comments/{}", comment.id);
    let payload = json!({
        "action": action,
        "comment": {
            "url": url,
            "html_url": format!("{}#issuecomment-{}", pr.html_url(), comment.id),
            "issue_url": issue["url"],
            "id": comment.id,
            "node_id": objects::node_id("IC", comment.id),
            "user": objects::account(comment.author.as_ref()),
            "created_at": comment.created_at,
            "updated_at": comment.created_at,
            "author_association": objects::association(comment.author.as_ref()),
            "body": comment.body,
            "reactions": objects::reactions(&url),
            "performed_via_github_app": null,
        },
        "issue": issue,
    });
    signed_by(payload, &pr.world, sender)
}

/// Turns an `issue_comment` event of a pull request into one of a plain issue with that number:
/// GitHub counts both in one sequence and distinguishes them by the key `pull_request`.
pub fn on_plain_issue(mut event: Value) -> Value {
    if let Some(issue) = event["issue"].as_object_mut() {
        issue.remove("pull_request");
        issue.remove("draft");
    }
    for at in ["/issue/html_url", "/comment/html_url"] {
        let Some(Value::String(url)) = event.pointer_mut(at) else {
            continue;
        };
        *url = url.replace("/pull/", "/issues/");
    }
    event
}

/// A `push` of one commit. As on GitHub the dates of the repository are numbers here, the commit's
/// has an offset, and the owner has the keys `name` and `email`.
pub fn push_event(
    world: &World,
    branch: &str,
    (before, after): (&str, &str),
    sender: &Account,
    at: &str,
) -> Value {
    let mut repository = objects::repository(world);
    for key in ["created_at", "pushed_at"] {
        repository[key] = json!(repository[key].as_str().map(epoch_seconds));
    }
    let owner = &world.owner.login;
    let extra = json!({"name": owner, "email": null});
    objects::extend(&mut repository["owner"], extra);
    let more = json!({
        "stargazers": 12,
        "master_branch": world.default_branch,
        "organization": owner,
    });
    objects::extend(&mut repository, more);
    let compare = format!("{}/compare/{before}...{after}", world.full_name());
    let commit = pushed_commit(world, after, sender, at);
    let payload = json!({
        "ref": format!("refs/heads/{branch}"),
        "before": before,
        "after": after,
        "created": false,
        "deleted": false,
        "forced": false,
        "base_ref": null,
        "compare": objects::web(&compare),
        "pusher": {"name": sender.login, "email": commit["author"]["email"]},
        "head_commit": commit,
        "commits": [commit],
    });
    let mut payload = signed_by(payload, world, sender);
    payload["repository"] = repository;
    payload
}

fn pushed_commit(world: &World, sha: &str, author: &Account, at: &str) -> Value {
    let person = json!({
        "name": author.login,
        "email": format!("{}@users.noreply.example", author.login),
        "username": author.login,
    });
    json!({
        "id": sha,
        "tree_id": self::sha(&format!("tree-{sha}")),
        "distinct": true,
        "message": "Change the server",
        "timestamp": at.replace('Z', "+00:00"),
        "url": objects::web(&format!("{}/commit/{sha}", world.full_name())),
        "author": person,
        "committer": person,
        "added": [],
        "removed": [],
        "modified": ["src/main.rs"],
    })
}

/// The `ping` that GitHub sends when a webhook is made.
pub fn ping_event(world: &World, sender: &Account, at: &str) -> Value {
    let hook = format!("{}/hooks/{}", objects::api_repo(world), world.hook_id);
    let payload = json!({
        "zen": "Keep it logically awesome.",
        "hook_id": world.hook_id,
        "hook": {
            "type": "Repository",
            "id": world.hook_id,
            "name": "web",
            "active": true,
            "events": ["*"],
            "config": {
                "content_type": "json",
                "insecure_ssl": "0",
                "url": "https://hooks.acme-corp.example/webhooks/github",
            },
            "updated_at": at,
            "created_at": at,
            "url": hook,
            "test_url": format!("{hook}/test"),
            "ping_url": format!("{hook}/pings"),
            "deliveries_url": format!("{hook}/deliveries"),
            "last_response": {"code": null, "status": "unused", "message": null},
        },
    });
    signed_by(payload, world, sender)
}

/// Adds what every payload ends with: `repository`, `sender` and, where an organization owns the
/// repository, `organization`.
fn signed_by(mut payload: Value, world: &World, sender: &Account) -> Value {
    payload["repository"] = objects::repository(world);
    payload["sender"] = objects::account(Some(sender));
    if world.owner.kind == "Organization" {
        payload["organization"] = objects::organization(&world.owner);
    }
    payload
}

/// 40 hexadecimal digits that depend on `name` alone (FNV-1a, stretched); no commit has them.
pub fn sha(name: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut hex = String::new();
    for round in 0..3_u8 {
        for byte in name.bytes().chain([round]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hex.push_str(&format!("{hash:016x}"));
    }
    hex.truncate(40);
    hex
}

/// Seconds since 1970 of a text like `2026-03-02T09:00:00Z`; panics on any other shape.
pub fn epoch_seconds(time: &str) -> i64 {
    assert!(
        time.len() == 20 && time.ends_with('Z'),
        "not a UTC time to the second: {time}"
    );
    let part = |range: std::ops::Range<usize>| -> i64 {
        time[range].parse().expect("a time is made of numbers")
    };
    let days = days_since_1970(part(0..4), part(5..7), part(8..10));
    days * 86_400 + part(11..13) * 3_600 + part(14..16) * 60 + part(17..19)
}

/// The RFC 3339 text of a timestamp, the inverse of [`epoch_seconds`].
pub fn rfc3339(epoch_seconds: i64) -> String {
    let (days, second) = (
        epoch_seconds.div_euclid(86_400),
        epoch_seconds.rem_euclid(86_400),
    );
    let (year, month, day) = date_after_1970(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days in the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

fn date_after_1970(days: i64) -> (i64, i64, i64) {
    let mut year = 1970 + days.div_euclid(366);
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_since_1970(year, month + 1, 1) <= days {
        month += 1;
    }
    (year, month, days - days_since_1970(year, month, 1) + 1)
}
