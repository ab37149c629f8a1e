//! Pull requests of the last weeks in one repository, through signed webhooks.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tallyhook_core::github::types::Timestamp;
use testkit::TestServer;

pub(super) const NAME: &str = "acme-corp/web";
/// A title that would be more than text on a page that does not escape it.
pub(super) const HOSTILE: &str =
    r#"</title><img src=x onerror="alert(1)">'&<script>alert(2)</script>"#;

struct Story<'a> {
    server: &'a TestServer,
    now: DateTime<Utc>,
    number: i64,
    /// Hours ago.
    opened: i64,
    author: Value,
    title: String,
    head: String,
    base: &'static str,
    draft: bool,
    teams: Vec<Value>,
    people: Vec<Value>,
}

fn user(id: i64, login: &str) -> Value {
    json!({"id": id, "login": login, "type": "User"})
}

fn bot(id: i64, login: &str) -> Value {
    json!({"id": id, "login": login, "type": "Bot"})
}

impl<'a> Story<'a> {
    fn new(server: &'a TestServer, number: i64, opened: i64) -> Self {
        Self {
            server,
            now: Utc::now(),
            number,
            opened,
            author: user(1, "mira"),
            title: format!("Change {number}"),
            head: format!("topic-{number}"),
            base: "main",
            draft: false,
            teams: Vec::new(),
            people: Vec::new(),
        }
    }

    fn ago(&self, hours: i64) -> Value {
        json!(Timestamp::from(self.now - TimeDelta::hours(hours)))
    }

    async fn send(&self, event: &str, action: &str, hours: i64, more: Value) {
        let is_closed = action == "closed";
        let is_merged = more["merged"] == true;
        let closed_at = is_closed.then(|| self.ago(hours));
        let mut body = json!({
            "action": action, "number": self.number,
            "pull_request": {
                "id": 9000 + self.number, "number": self.number, "title": self.title, "body": null,
                "html_url": format!("https://github.com/{NAME}/pull/{}", self.number),
                "state": if is_closed { "closed" } else { "open" }, "draft": self.draft,
                "user": self.author, "labels": [], "author_association": "MEMBER",
                "requested_reviewers": self.people, "requested_teams": self.teams,
                "created_at": self.ago(self.opened), "updated_at": self.ago(hours),
                "closed_at": closed_at, "merged_at": closed_at.as_ref().filter(|_| is_merged), "merged": is_merged,
                "base": {"ref": self.base, "sha": "b1", "repo": {"id": 8, "full_name": NAME}},
                "head": {"ref": self.head, "sha": "h1", "repo": {"id": 8, "full_name": NAME}},
                "additions": 7, "deletions": 1, "changed_files": 1, "commits": 1
            },
            "repository": {"id": 8, "full_name": NAME, "name": "web", "private": false,
                "owner": user(5, "acme-corp")},
            "sender": self.author
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let guid = format!("{}-{action}-{hours}", self.number);
        let body = serde_json::to_vec(&body).unwrap();
        assert_eq!(self.server.post(event, &guid, &body).await.0, 202);
    }

    async fn opened(&self) {
        self.send("pull_request", "opened", self.opened, json!({}))
            .await;
    }

    async fn asks_team(&mut self, slug: &str, hours: i64) {
        let team = json!({"id": 71, "slug": slug, "name": slug});
        self.teams = vec![team.clone()];
        let more = json!({"requested_team": team});
        self.send("pull_request", "review_requested", hours, more)
            .await;
    }

    async fn asks(&mut self, person: Value, hours: i64) {
        self.people = vec![person.clone()];
        let more = json!({"requested_reviewer": person});
        self.send("pull_request", "review_requested", hours, more)
            .await;
    }

    async fn reviewed(&mut self, state: &str, hours: i64) {
        self.people.clear();
        let id = 300 + self.number;
        let more = json!({"review": {"id": id, "user": user(2, "yuki"), "state": state,
            "submitted_at": self.ago(hours), "commit_id": "h1", "body": "", "author_association": "MEMBER"}});
        self.send("pull_request_review", "submitted", hours, more)
            .await;
    }

    async fn merged(&self, hours: i64) {
        self.send("pull_request", "closed", hours, json!({"merged": true}))
            .await;
    }

    async fn closed(&self, hours: i64) {
        self.send("pull_request", "closed", hours, json!({"merged": false}))
            .await;
    }
}

/// Posts open pull requests of many reasons, of a stack of two, and of some that
/// ended in this period of four weeks or in the one before.
pub(super) async fn furnish(server: &mut TestServer) {
    open(server).await;
    ended(server).await;
    server.drained().await;
}

async fn open(server: &TestServer) {
    let story = |number, opened| Story::new(server, number, opened);
    let mut asked = story(1, 60);
    asked.opened().await;
    asked.asks_team("backend", 30).await;
    story(2, 5).opened().await;
    for (number, head, base) in [(3, "below", "main"), (4, "above", "below")] {
        let mut approved = story(number, 200 - number);
        (approved.head, approved.base) = (head.to_owned(), base);
        approved.opened().await;
        approved.reviewed("approved", 190 - number).await;
    }
    let mut draft = story(5, 10);
    draft.draft = true;
    draft.opened().await;
    let mut ines = story(6, 90);
    ines.opened().await;
    ines.asks(user(3, "ines-acme"), 80).await;
    let mut returned = story(7, 100);
    returned.opened().await;
    returned.reviewed("changes_requested", 75).await;
    let mut hostile = story(8, 26);
    (hostile.title, hostile.head) = (HOSTILE.to_owned(), "<b>branch</b>".to_owned());
    hostile.opened().await;
    let mut automation = story(9, 50);
    automation.author = bot(9, "dependabot[bot]");
    automation.opened().await;
}

async fn ended(server: &TestServer) {
    let story = |number, opened| Story::new(server, number, opened);
    for (number, opened, reviewed, merged) in [
        (20, 40, 36, 30),
        (21, 300, 200, 180),
        (22, 900, 880, 870),
        (23, 30, 29, 20),
    ] {
        let mut merges = story(number, opened);
        merges.opened().await;
        merges.reviewed("approved", reviewed).await;
        merges.merged(merged).await;
    }
    let unseen = story(24, 100);
    unseen.opened().await;
    unseen.merged(98).await;
    for (number, hours) in [(25, 50), (26, 800)] {
        let given_up = story(number, hours + 9);
        given_up.opened().await;
        given_up.closed(hours).await;
    }
    let mut automation = story(27, 20);
    automation.author = bot(9, "dependabot[bot]");
    automation.opened().await;
    automation.merged(19).await;
    let mut as_draft = story(28, 45);
    as_draft.draft = true;
    as_draft.opened().await;
    as_draft.merged(44).await;
}
