//! Waiting of open pull requests, through signed webhooks: totals, lists and one pull request.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tallyhook_core::github::types::Timestamp;

use testkit::TestServer;

const NAME: &str = "acme-corp/api-server";

/// One moment for all of a story, so that its spans are whole hours.
static NOW: LazyLock<DateTime<Utc>> = LazyLock::new(Utc::now);

fn ago(hours: i64) -> Value {
    json!(Timestamp::from(*NOW - TimeDelta::hours(hours)))
}

fn user(id: i64, login: &str) -> Value {
    json!({"id": id, "login": login, "type": "User"})
}

/// A pull request of Mira's that was opened so many hours ago.
struct Story {
    number: i64,
    opened: i64,
    head: &'static str,
    base: &'static str,
    reviewers: Vec<Value>,
    teams: Vec<Value>,
    labels: Vec<Value>,
    draft: bool,
    closed: Option<(i64, bool)>,
}

impl Story {
    fn new(number: i64, opened: i64) -> Self {
        Self {
            number,
            opened,
            head: "topic",
            base: "main",
            reviewers: Vec::new(),
            teams: Vec::new(),
            labels: Vec::new(),
            draft: false,
            closed: None,
        }
    }

    fn pull_request(&self, updated: i64) -> Value {
        let closed_at = self.closed.map(|(hours, _)| ago(hours));
        let merged_at = self.closed.filter(|(_, merged)| *merged);
        json!({
            "id": 9000 + self.number, "number": self.number, "title": format!("Change {}", self.number),
            "body": null, "html_url": format!("https://github.com/{NAME}/pull/{}", self.number),
            "state": if self.closed.is_some() { "closed" } else { "open" }, "draft": self.draft,
            "user": user(1, "mira"), "labels": self.labels, "author_association": "MEMBER",
            "requested_reviewers": self.reviewers, "requested_teams": self.teams,
            "created_at": ago(self.opened), "updated_at": ago(updated), "closed_at": closed_at,
            "merged_at": merged_at.map(|(hours, _)| ago(hours)), "merged": merged_at.is_some(),
            "base": {"ref": self.base, "sha": "b1", "repo": {"id": 7, "full_name": NAME}},
            "head": {"ref": self.head, "sha": "h1", "repo": {"id": 7, "full_name": NAME}},
            "additions": 1, "deletions": 1, "changed_files": 1, "commits": 1
        })
    }

    async fn send(&self, server: &TestServer, action: &str, at: i64, more: Value) {
        let mut body = json!({
            "action": action, "number": self.number, "pull_request": self.pull_request(at),
            "repository": {"id": 7, "full_name": NAME, "name": "api-server", "private": false,
                "owner": user(5, "acme-corp")},
            "sender": user(1, "mira")
        });
        let event = if more.get("review").is_some() {
            "pull_request_review"
        } else {
            "pull_request"
        };
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let guid = format!("{}-{action}-{at}", self.number);
        let body = serde_json::to_vec(&body).unwrap();
        assert_eq!(server.post(event, &guid, &body).await.0, 202);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "callers make it for this")]
fn review(id: i64, state: &str, at: i64, by: Value) -> Value {
    json!({"review": {"id": id, "user": by, "state": state, "submitted_at": ago(at),
        "commit_id": "h1", "body": "", "author_association": "MEMBER"}})
}

/// Opens: #1 asked of team backend 2 days ago; #2 with no one asked; #3 approved; #4 whose base is
/// the branch of #3, approved; #5 a draft; #6 merged after a pickup of 4 hours; #7 asked of Ines.
async fn told(server: &mut TestServer) {
    let mut asked = Story::new(1, 60);
    asked.labels = vec![json!({"name": "urgent"})];
    asked.send(server, "opened", 60, json!({})).await;
    let team = json!({"id": 71, "slug": "backend", "name": "Backend"});
    asked.teams = vec![team.clone()];
    let requested = json!({"requested_team": team});
    asked.send(server, "review_requested", 48, requested).await;
    Story::new(2, 5).send(server, "opened", 5, json!({})).await;
    let mut ines = Story::new(7, 30);
    ines.send(server, "opened", 30, json!({})).await;
    ines.reviewers = vec![user(3, "ines-acme")];
    let requested = json!({"requested_reviewer": user(3, "ines-acme")});
    ines.send(server, "review_requested", 20, requested).await;
    for (number, head, base) in [(3, "below", "main"), (4, "above", "below")] {
        let mut approved = Story::new(number, 200);
        (approved.head, approved.base) = (head, base);
        approved.send(server, "opened", 200, json!({})).await;
        let approval = review(300 + number, "approved", 190, user(2, "yuki"));
        approved.send(server, "submitted", 190, approval).await;
    }
    let mut draft = Story::new(5, 10);
    draft.draft = true;
    draft.send(server, "opened", 10, json!({})).await;
    let mut merged = Story::new(6, 40);
    merged.send(server, "opened", 40, json!({})).await;
    let approval = review(306, "approved", 36, user(2, "yuki"));
    merged.send(server, "submitted", 36, approval).await;
    merged.closed = Some((30, true));
    merged.send(server, "closed", 30, json!({})).await;
    server.drained().await;
}

async fn numbers(server: &TestServer, query: &str) -> Vec<i64> {
    let (status, list) = server.get(&format!("/api/prs?{query}")).await;
    assert_eq!(status, 200, "{query}: {list}");
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["number"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn totals_say_what_waits_on_whom_and_since_when() {
    let mut server = TestServer::start().await;
    told(&mut server).await;
    let (_, answer) = server.get("/api/waiting").await;
    assert_eq!(answer["open"], 6);
    let groups = answer["groups"].as_array().unwrap();
    let found: Vec<_> = groups
        .iter()
        .map(|group| {
            let text = |name: &str| group[name].as_str().unwrap().to_owned();
            let counts = ["n", "under_1d", "under_3d", "under_7d", "over_7d"];
            let counts = counts.map(|name| group[name].as_u64().unwrap());
            let longest = group["longest"]["number"].as_i64().unwrap();
            (text("for"), text("reason"), counts, longest)
        })
        .collect();
    let group = |on: &str, reason: &str, counts, longest| {
        (on.to_owned(), reason.to_owned(), counts, longest)
    };
    assert_eq!(
        found,
        [
            group("reviewers", "first_review", [2, 1, 1, 0, 0], 1),
            group("author", "merge", [1, 0, 0, 0, 1], 3),
            group("base_pr", "base_pr", [1, 0, 0, 0, 1], 4),
            group("nobody", "nobody_asked", [1, 1, 0, 0, 0], 2),
            group("author", "draft", [1, 1, 0, 0, 0], 5),
        ]
    );
    // People are not listed: only the team is.
    let on = answer["on"].as_array().unwrap();
    assert_eq!(
        (on.len(), &on[0]["kind"], &on[0]["name"]),
        (1, &json!("team"), &json!("backend"))
    );
    assert_eq!(answer["freshness"]["not_computed"], 0);

    let (_, of_team) = server.get("/api/waiting?github_team=Backend").await;
    assert_eq!(
        (&of_team["open"], &of_team["groups"][0]["n"]),
        (&json!(1), &json!(1))
    );
    let (status, _) = server.get("/api/waiting?repo=acme-corp/none").await;
    assert_eq!(status, 404);
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_and_sorted_by_waiting() {
    let mut server = TestServer::start().await;
    told(&mut server).await;
    for (query, expected) in [
        ("sort=waiting", &[3, 4, 1, 7, 5, 2][..]),
        ("sort=waiting&order=asc", &[2, 5, 7, 1, 4, 3]),
        ("waiting_for=reviewers", &[1, 7]),
        ("waiting_for=base_pr", &[4]),
        ("waiting_for=author", &[3, 5]),
        ("waiting_on=github_team:BACKEND", &[1]),
        ("waiting_on=Ines-Acme", &[7]),
        ("waited_min=1d", &[3, 4, 1]),
        ("waited_min=1d&waited_max=3d", &[1]),
        ("stage=pickup&min_hours=3.5&max_hours=4.5", &[6]),
        ("stage=pickup&min_hours=4.5", &[]),
        ("merged_from=2d&sort=pickup", &[6]),
        ("merged_from=1d", &[]),
        ("label=urgent", &[1]),
        ("q=%237", &[7]),
        ("q=BELOW", &[3]),
        ("q=%25", &[]),
        ("draft=true", &[5]),
        ("counted=true", &[6]),
        ("flag=reopened", &[]),
        ("reason=first_review", &[1, 7]),
        ("reason=merge", &[3]),
        ("reason=base_pr", &[4]),
        ("reason=draft&authors=human", &[5]),
        ("reason=merge&waiting_for=maintainers", &[]),
        ("missing=coding&merged_from=9d", &[6]),
        ("missing=pickup", &[]),
        ("excluded=stub", &[]),
        ("closed_from=9d", &[]),
        ("state=open&sort=created", &[2, 5, 7, 1, 4, 3]),
    ] {
        assert_eq!(numbers(&server, query).await, expected, "{query}");
    }
    // Page by page, in every order.
    for sort in [
        "waiting",
        "updated",
        "merged",
        "created&state=open",
        "cycle&merged_from=9d",
    ] {
        let whole = numbers(&server, &format!("sort={sort}")).await;
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/prs?sort={sort}&per_page=2&count=true{cursor}");
            let (_, page) = server.get(&path).await;
            assert_eq!(page["count"], json!({"n": whole.len(), "exact": true}));
            let items = page["items"].as_array().unwrap().iter();
            paged.extend(items.map(|item| item["number"].as_i64().unwrap()));
            let Some(next) = page["next"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged, whole, "{sort}");
        assert!(!whole.is_empty(), "{sort}");
    }
    server.stop().await;
}

#[tokio::test]
async fn unknown_values_and_unbounded_orders_are_refused_with_the_next_step() {
    let server = TestServer::start().await;
    for (query, words) in [
        ("waiting_for=reviewer", "did you mean `reviewers`?"),
        ("sort=picup", "did you mean `pickup`?"),
        ("flag=reopend", "did you mean `reopened`?"),
        ("stage=cyclo", "did you mean `cycle`?"),
        ("reason=drafts", "did you mean `draft`?"),
        ("excluded=stubs", "did you mean `stub`?"),
        ("clock=business", "no calendar is configured"),
        ("sort=pickup", "add merged_from, with at most 400 days"),
        (
            "sort=pickup&merged_from=500d",
            "add merged_from, with at most 400 days",
        ),
        ("sort=created", "add state=open, or merged_from"),
        ("min_hours=3", "want `stage`"),
        ("stage=pickup&min_hours=-1", "expected a number of hours"),
        (
            "waiting_on=team:x",
            "expected a login, `me` or `github_team:SLUG`",
        ),
        ("waiting_on=me", "this token has no login"),
        ("cursor=e30", "start without it"),
    ] {
        let (status, answer) = server.get(&format!("/api/prs?{query}")).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(
            status == 400 && message.contains(words),
            "{query}: {status} {answer}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn me_is_the_login_of_the_token() {
    let mut server = TestServer::start().await;
    told(&mut server).await;
    let order = json!({"name": "ines", "role": "viewer", "login": "ines-acme"});
    let (_, created) = server.ask(Method::POST, "/api/tokens", &order).await;
    let token = created["token"].as_str().unwrap();
    let me = server
        .http
        .get(format!("{}/api/me", server.url))
        .bearer_auth(token);
    let me: Value = me.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        me["user"],
        json!({"id": null, "login": "ines-acme", "name": null})
    );
    let url = format!("{}/api/prs?waiting_on=me", server.url);
    let request = server.http.get(url).bearer_auth(token);
    let mine: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(mine["items"][0]["number"], 7, "{mine}");
    assert_eq!(mine["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn pull_request_explains_its_turns_and_requests() {
    let mut server = TestServer::start().await;
    told(&mut server).await;
    let (_, one) = server.get("/api/prs/1").await;
    let waiting = &one["waiting"];
    assert_eq!(
        (&waiting["for"], &waiting["rule"]),
        (&json!("reviewers"), &json!(7))
    );
    assert_eq!(waiting["who"][0]["team"], "backend");
    assert_eq!(waiting["who"][0]["login"], Value::Null);
    assert_eq!(waiting["who"][0]["business_hours"], Value::Null);
    let text = one["explain"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("Open, waits 2 d") && text.contains("team backend"),
        "{text}"
    );
    let turns: Vec<_> = one["explain"]["turns"].as_array().unwrap().iter().collect();
    let kinds: Vec<_> = turns
        .iter()
        .map(|turn| turn["turn"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["nobody", "reviewers"]);
    assert_eq!(turns[0]["to"], turns[1]["from"]);
    let pair = &one["explain"]["pairs"][0];
    assert_eq!(
        (&pair["team"], &pair["end"]),
        (&json!("backend"), &json!("open"))
    );
    // The seconds by turn add up to the age, whenever it is read.
    let by: i64 = one["time_by"]
        .as_object()
        .unwrap()
        .values()
        .map(|s| s.as_i64().unwrap())
        .sum();
    let parse = |value: &Value| Timestamp::parse(value.as_str().unwrap()).unwrap().epoch();
    assert_eq!(by, parse(&waiting["as_of"]) - parse(&one["pr_created_at"]));
    assert_eq!(one["time_by"]["nobody"], 12 * 3600);

    let (_, merged) = server.get("/api/prs/6").await;
    assert_eq!(merged["waiting"], Value::Null);
    let by: i64 = merged["time_by"]
        .as_object()
        .unwrap()
        .values()
        .map(|s| s.as_i64().unwrap())
        .sum();
    assert_eq!(by, 10 * 3600);
    assert_eq!(merged["explain"]["rounds"].as_array().unwrap().len(), 1);
    server.stop().await;
}
