//! Checks of the fake GitHub: its REST responses against the official description of GitHub, its
//! webhooks against our own decoder, and its faults against the requests of a test.

#[cfg(feature = "recorded")]
mod official;

use std::collections::HashSet;

use serde_json::{Value, json};
use tallyhook_core::event;
use tallyhook_core::github::types::Timestamp;

use testkit::github::acts::Act;
use testkit::github::growth::{Growth, people};
use testkit::github::world::{Opening, Reviewer, Webhook, World};
use testkit::github::{self, FakeGithub, Fault, GITHUB_TOKEN, Resource, Rights, Sending};
use testkit::payloads::{Account, HeadRepo};

const REPO: &str = "acme-corp/api-server";
const REPO_ID: i64 = 1_900_000_001;
const READER: &str = "ghp_reader_of_the_tests_0123456789";

/// A query for a page of complete pull requests.
const PAGE: &str = include_str!("page.graphql");

fn timestamp(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn growth(seed: u64, pulls: usize) -> Growth {
    Growth {
        seed,
        pulls,
        ties: true,
        until: timestamp("2026-06-01T12:00:00Z"),
    }
}

/// Returns a fake GitHub with generated pull requests, and the webhooks about them.
async fn grown(seed: u64, pulls: usize) -> (FakeGithub, Vec<Webhook>) {
    let github = FakeGithub::start().await;
    github.add_repository(REPO_ID, REPO);
    let webhooks = github.world(|world| world.grow(REPO, growth(seed, pulls)));
    (github, webhooks)
}

/// An answer with its status, headers and body.
struct Seen {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(request: reqwest::RequestBuilder, token: &str) -> Seen {
    let answer = request
        .bearer_auth(token)
        .header("User-Agent", "a test")
        .send()
        .await
        .unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Seen {
        status,
        headers,
        body: answer.json().await.unwrap_or_default(),
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

async fn get(github: &FakeGithub, path: &str) -> Seen {
    ask(http().get(format!("{}{path}", github.url)), GITHUB_TOKEN).await
}

async fn query(github: &FakeGithub, text: &str, variables: Value) -> Seen {
    let body = json!({"query": text, "variables": variables});
    ask(
        http().post(format!("{}/graphql", github.url)).json(&body),
        GITHUB_TOKEN,
    )
    .await
}

fn variables(first: i64, after: Option<&str>) -> Value {
    json!({"owner": "acme-corp", "name": "api-server", "first": first, "after": after})
}

/// Queries a page of the repository's pull requests with all fields.
async fn page(github: &FakeGithub, first: i64, after: Option<&str>) -> Value {
    let Seen { status, body, .. } = query(github, PAGE, variables(first, after)).await;
    assert_eq!((status, &body["errors"]), (200, &Value::Null));
    body["data"].clone()
}

fn numbers(page: &Value) -> Vec<i64> {
    let nodes = page["repository"]["pullRequests"]["nodes"]
        .as_array()
        .unwrap();
    nodes
        .iter()
        .map(|node| node["number"].as_i64().unwrap())
        .collect()
}

#[test]
fn same_seed_generates_the_same_history() {
    let webhooks = |seed| {
        let mut world = World::default();
        world.add_repository(REPO_ID, REPO);
        let webhooks = world.grow(REPO, growth(seed, 20));
        webhooks
            .into_iter()
            .map(|webhook| (webhook.guid, webhook.payload))
            .collect::<Vec<_>>()
    };
    assert_eq!(webhooks(1), webhooks(1));
    assert_ne!(webhooks(1), webhooks(2));
}

#[test]
fn generated_history_has_every_kind_of_event() {
    let mut world = World::default();
    world.add_repository(REPO_ID, REPO);
    let webhooks = world.grow(REPO, growth(7, 500));
    let mut seen: HashSet<String> = HashSet::new();
    for webhook in &webhooks {
        let event = event::decode(webhook.event, webhook.payload.to_string().as_bytes()).unwrap();
        seen.insert(format!(
            "{} {}",
            webhook.event,
            event.action().unwrap_or("")
        ));
    }
    for expected in [
        "push ",
        "pull_request opened",
        "pull_request synchronize",
        "pull_request ready_for_review",
        "pull_request converted_to_draft",
        "pull_request review_requested",
        "pull_request review_request_removed",
        "pull_request labeled",
        "pull_request unlabeled",
        "pull_request edited",
        "pull_request enqueued",
        "pull_request dequeued",
        "pull_request closed",
        "pull_request reopened",
        "pull_request_review submitted",
        "pull_request_review dismissed",
        "pull_request_review_comment created",
        "issue_comment created",
    ] {
        assert!(seen.contains(expected), "no webhook of {expected}");
    }
    let guids: HashSet<_> = webhooks.iter().map(|webhook| &webhook.guid).collect();
    assert_eq!(guids.len(), webhooks.len());
    assert!(webhooks.is_sorted_by_key(|webhook| webhook.at));

    let pulls: Vec<_> = world.repository(REPO).pulls.values().collect();
    assert_eq!(pulls.len(), 500);
    let count = |what: &dyn Fn(&github::world::PullRequest) -> bool| {
        pulls.iter().filter(|pull| what(pull)).count()
    };
    for (what, least, found) in [
        ("merged", 50, count(&|pull| pull.pr.merged_at.is_some())),
        (
            "closed unmerged",
            20,
            count(&|pull| pull.pr.merged_at.is_none() && !pull.is_open()),
        ),
        ("drafts", 20, count(&|pull| pull.pr.draft)),
        (
            "of deleted accounts",
            20,
            count(&|pull| pull.pr.author.is_none()),
        ),
        (
            "of bots",
            20,
            count(&|pull| {
                pull.pr
                    .author
                    .as_ref()
                    .is_some_and(|author| author.kind == "Bot")
            }),
        ),
        (
            "with unordered review ids",
            20,
            count(&|pull| !pull.reviews.is_sorted_by_key(|review| review.id)),
        ),
        (
            "of deleted forks",
            20,
            count(&|pull| matches!(pull.pr.head_repo, HeadRepo::Deleted { .. })),
        ),
    ] {
        assert!(found >= least, "{found} {what}");
    }
}

#[tokio::test]
async fn rest_lists_changes_page_by_page_and_unchanged_lists_cost_nothing() {
    let (github, _) = grown(3, 250).await;
    let path = format!("/repos/{REPO}/pulls?state=all&sort=updated&direction=desc&per_page=100");
    let (mut next, mut listed) = (format!("{}{path}", github.url), Vec::new());
    let first = loop {
        let seen = ask(http().get(&next), GITHUB_TOKEN).await;
        listed.extend(seen.body.as_array().unwrap().clone());
        let Some((link, _)) = seen
            .header("link")
            .split(", ")
            .find_map(|link| link.split_once(">; rel=\"next\""))
        else {
            break seen;
        };
        link.trim_start_matches('<').clone_into(&mut next);
    };
    assert!(
        next.contains(&format!("/repositories/{REPO_ID}/pulls?")),
        "{next}"
    );
    assert_eq!((listed.len(), github.requests().len()), (250, 3));
    assert!(
        listed.is_sorted_by(|one, two| one["updated_at"].as_str() >= two["updated_at"].as_str())
    );
    let twelve = [
        "additions",
        "deletions",
        "changed_files",
        "commits",
        "comments",
        "review_comments",
        "merged",
        "merged_by",
        "mergeable",
        "mergeable_state",
        "rebaseable",
        "maintainer_can_modify",
    ];
    let full = get(&github, &format!("/repos/{REPO}/pulls/1")).await.body;
    let simple = listed
        .iter()
        .find(|pull| pull["number"] == 1)
        .unwrap()
        .as_object()
        .unwrap();
    for name in twelve {
        assert!(
            !simple.contains_key(name) && full.as_object().unwrap().contains_key(name),
            "{name}"
        );
    }
    assert_eq!(full.as_object().unwrap().len(), simple.len() + twelve.len());

    let etag = first.header("etag").to_owned();
    let again = ask(
        http().get(&next).header("If-None-Match", &etag),
        GITHUB_TOKEN,
    )
    .await;
    assert_eq!(again.status, 304);
    assert_eq!(
        again.header("x-ratelimit-remaining"),
        get(&github, "/rate_limit").await.body["rate"]["remaining"].to_string()
    );
    // The same answer has another ETag for another token.
    github.give(READER, Rights::Read);
    assert_eq!(
        ask(http().get(&next).header("If-None-Match", &etag), READER)
            .await
            .status,
        200
    );
    let costs: Vec<_> = github
        .requests()
        .iter()
        .map(|request| (request.status, request.cost))
        .collect();
    assert_eq!(costs, [(200, 1), (304, 0), (200, 0), (200, 1)]);

    for (query, expected) in [("state=open", "open"), ("state=closed", "closed")] {
        let shown = get(
            &github,
            &format!("/repos/{REPO}/pulls?{query}&per_page=100"),
        )
        .await
        .body;
        let shown = shown.as_array().unwrap();
        assert!(
            !shown.is_empty() && shown.iter().all(|pull| pull["state"] == expected),
            "{query}"
        );
    }
    assert_eq!(
        get(&github, &format!("/repos/{REPO}/pulls?state=bogus"))
            .await
            .status,
        422
    );
    github.stop().await;
}

#[tokio::test]
async fn tokens_see_what_their_rights_allow() {
    let (github, _) = grown(4, 3).await;
    let status = async |path: &str, token: &str| {
        ask(http().get(format!("{}{path}", github.url)), token)
            .await
            .status
    };
    let (repo, hooks) = (format!("/repos/{REPO}"), format!("/repos/{REPO}/hooks"));
    for (rights, expected) in [
        (Rights::Admin, [200, 200, 200]),
        (Rights::Read, [200, 200, 404]),
        (Rights::FineGrained, [200, 200, 403]),
        (Rights::Public, [200, 404, 404]),
    ] {
        github.give(READER, rights);
        github.world(|world| world.repository(REPO).place.private = false);
        let public = status(&repo, READER).await;
        github.world(|world| world.repository(REPO).place.private = true);
        assert_eq!(
            [
                public,
                status(&repo, READER).await,
                status(&hooks, READER).await
            ],
            expected,
            "{rights:?}"
        );
    }
    assert_eq!(status("/repos/acme-corp/unknown", GITHUB_TOKEN).await, 404);
    let asked = json!({"query": PAGE, "variables": variables(1, None)});
    let refused = ask(
        http().post(format!("{}/graphql", github.url)).json(&asked),
        READER,
    )
    .await;
    assert_eq!(
        (
            &refused.body["errors"][0]["type"],
            &refused.body["data"]["repository"]
        ),
        (&json!("NOT_FOUND"), &json!(null))
    );
    github.revoke(READER);
    let revoked = ask(http().get(format!("{}{repo}", github.url)), READER).await;
    assert_eq!(
        (revoked.status, &revoked.body["message"]),
        (401, &json!("Bad credentials"))
    );
    github.stop().await;
}

#[tokio::test]
async fn token_has_a_rate_limit() {
    let (github, _) = grown(5, 3).await;
    github.allow(GITHUB_TOKEN, Resource::Core, 60, 1);
    github.allow(GITHUB_TOKEN, Resource::Graphql, 5000, 1);
    let path = format!("/repos/{REPO}");
    let last = get(&github, &path).await;
    assert_eq!(
        (
            last.status,
            last.header("x-ratelimit-limit"),
            last.header("x-ratelimit-remaining")
        ),
        (200, "60", "0")
    );
    let refused = get(&github, &path).await;
    assert_eq!(
        (refused.status, refused.header("x-ratelimit-remaining")),
        (403, "0")
    );
    assert!(
        refused.header("x-ratelimit-reset").parse::<i64>().unwrap()
            > chrono::Utc::now().timestamp()
    );

    assert_eq!(page(&github, 1, None).await["rateLimit"]["remaining"], 0);
    let refused = query(&github, PAGE, variables(1, None)).await;
    assert_eq!(
        (refused.status, &refused.body["errors"][0]["type"]),
        (200, &json!("RATE_LIMITED"))
    );
    assert_eq!(refused.header("x-ratelimit-resource"), "graphql");
    github.stop().await;
}

#[tokio::test]
async fn webhooks_are_made_once_and_changed() {
    let (github, _) = grown(6, 1).await;
    let hooks = format!("{}/repos/{REPO}/hooks", github.url);
    let wanted = json!({
        "name": "web",
        "events": ["pull_request"],
        "config": {"url": "https://me.example/hook", "secret": "s"},
    });
    let made = ask(http().post(&hooks).json(&wanted), GITHUB_TOKEN).await;
    assert_eq!(
        (made.status, &made.body["events"]),
        (201, &json!(["pull_request"]))
    );
    let twice = ask(http().post(&hooks).json(&wanted), GITHUB_TOKEN).await;
    assert_eq!(
        (twice.status, twice.body["errors"][0]["message"].as_str()),
        (422, Some("Hook already exists on this repository"))
    );
    let one = format!("{hooks}/{}", made.body["id"]);
    let changed = ask(
        http()
            .patch(&one)
            .json(&json!({"events": ["push"], "active": false})),
        GITHUB_TOKEN,
    )
    .await;
    assert_eq!(
        (
            changed.status,
            &changed.body["events"],
            &changed.body["active"]
        ),
        (200, &json!(["push"]), &json!(false))
    );
    assert_eq!(
        get(&github, &format!("/repos/{REPO}/hooks")).await.body,
        json!([changed.body])
    );
    github.stop().await;
}

#[tokio::test]
async fn dropped_or_too_large_deliveries_are_not_listed() {
    let (github, webhooks) = grown(8, 2).await;
    github.add_hook(5, &format!("repos/{REPO}"), "http://127.0.0.1:1", "s");
    for (webhook, sending) in
        webhooks
            .iter()
            .zip([Sending::Dropped, Sending::TooLarge, Sending::Fails(502)])
    {
        github.send(5, webhook, sending).await;
    }
    let path = format!("/repos/{REPO}/hooks/5/deliveries");
    let listed = get(&github, &path).await.body;
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["guid"]),
        (1, &json!(webhooks[2].guid))
    );
    github.forget_before(5, webhooks[2].at.to_utc() + chrono::TimeDelta::seconds(1));
    assert_eq!(get(&github, &path).await.body, json!([]));
    github.stop().await;
}

/// The API shows a pull request as its last webhook does.
#[tokio::test]
async fn webhooks_and_answers_agree() {
    let (github, webhooks) = grown(9, 60).await;
    let pulls = page(&github, 60, None).await["repository"]["pullRequests"].clone();
    assert_eq!(
        (&pulls["totalCount"], &pulls["pageInfo"]["hasNextPage"]),
        (&json!(60), &json!(false))
    );
    for node in pulls["nodes"].as_array().unwrap() {
        let of_this = |webhook: &&Webhook| {
            webhook.event == "pull_request" && webhook.payload["number"] == node["number"]
        };
        let full = get(&github, &format!("/repos/{REPO}/pulls/{}", node["number"]))
            .await
            .body;
        let last = &webhooks.iter().rev().find(of_this).unwrap().payload["pull_request"];
        for (rest, graphql) in [
            ("title", "title"),
            ("draft", "isDraft"),
            ("created_at", "createdAt"),
            ("closed_at", "closedAt"),
            ("merged_at", "mergedAt"),
            ("additions", "additions"),
            ("html_url", "url"),
        ] {
            assert_eq!(
                (&full[rest], &last[rest]),
                (&node[graphql], &node[graphql]),
                "{rest} of {}",
                node["number"]
            );
        }
        assert_eq!(
            (&full["updated_at"], full["id"].to_string()),
            (
                &node["updatedAt"],
                node["fullDatabaseId"].as_str().unwrap().to_owned()
            )
        );
        assert_eq!(full["commits"], node["commits"]["totalCount"]);
        assert_eq!(node["author"].is_null(), full["user"].is_null());
        if full["user"]["type"] == "Bot" {
            assert_eq!(
                (&full["user"]["login"], &node["author"]["login"]),
                (&json!("updater[bot]"), &json!("updater"))
            );
        }
        let reviews = get(
            &github,
            &format!("/repos/{REPO}/pulls/{}/reviews", node["number"]),
        )
        .await
        .body;
        let states = |list: &Value| {
            list.as_array()
                .unwrap()
                .iter()
                .map(|one| one["state"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(states(&reviews), states(&node["reviews"]["nodes"]));
    }
    github.stop().await;
}

#[tokio::test]
async fn former_state_of_a_dismissed_review_is_in_the_timeline_only() {
    let github = FakeGithub::start().await;
    github.add_repository(REPO_ID, REPO);
    let people = people();
    let at =
        |minute: i64| Timestamp::clamped(timestamp("2026-03-02T09:00:00Z").epoch() + 60 * minute);
    let webhooks = github.world(|world| {
        let opening = Opening {
            author: &people[0],
            title: "Add a door",
            branch: "door",
            head_repo: HeadRepo::Same,
            draft: true,
            at: at(0),
            commits: &[(at(-30), at(-20))],
        };
        let (number, mut webhooks) = world.open(REPO, &opening);
        let mut act = |by: &Account, minute, act| {
            webhooks.extend(world.act(REPO, number, by, at(minute), &act))
        };
        act(&people[0], 1, Act::ReadyForReview);
        act(&people[0], 1, Act::ReadyForReview);
        act(
            &people[0],
            2,
            Act::Request(Reviewer::Account(people[1].clone())),
        );
        act(&people[0], 3, Act::Review("approved"));
        act(&people[1], 4, Act::Review("approved"));
        let review = world.repository(REPO).pulls[&number].reviews[0].id;
        webhooks.extend(world.act(REPO, number, &people[0], at(5), &Act::Dismiss(review)));
        webhooks.extend(world.act(REPO, number, &people[2], at(6), &Act::Merge));
        webhooks
    });
    let actions: Vec<_> = webhooks
        .iter()
        .map(|webhook| webhook.payload["action"].as_str().unwrap())
        .collect();
    // A pull request is not ready twice, and an author cannot approve their own.
    assert_eq!(
        actions,
        [
            "opened",
            "ready_for_review",
            "review_requested",
            "submitted",
            "dismissed",
            "closed"
        ]
    );
    let node = page(&github, 1, None).await["repository"]["pullRequests"]["nodes"][0].clone();
    assert_eq!(
        (&node["state"], &node["reviews"]["nodes"][0]["state"]),
        (&json!("MERGED"), &json!("DISMISSED"))
    );
    assert_eq!(node["reviewRequests"]["nodes"], json!([]));
    let timeline = node["timelineItems"]["nodes"].as_array().unwrap();
    let kinds: Vec<_> = timeline
        .iter()
        .map(|item| item["__typename"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "ReadyForReviewEvent",
            "ReviewRequestedEvent",
            "ReviewDismissedEvent",
            "MergedEvent",
            "ClosedEvent"
        ]
    );
    assert_eq!(timeline[2]["previousReviewState"], "APPROVED");
    assert_eq!(
        timeline[2]["review"]["fullDatabaseId"],
        node["reviews"]["nodes"][0]["fullDatabaseId"]
    );
    github.stop().await;
}

#[tokio::test]
async fn page_continues_after_its_cursor_when_others_move_to_the_front() {
    let (github, _) = grown(10, 30).await;
    let whole = numbers(&page(&github, 30, None).await);
    let first = page(&github, 10, None).await;
    let pulls = &first["repository"]["pullRequests"];
    assert_eq!(
        (numbers(&first), &pulls["pageInfo"]["hasNextPage"]),
        (whole[..10].to_vec(), &json!(true))
    );
    let moved = whole[25];
    github.between(1, move |world| {
        let at = Timestamp::clamped(timestamp("2026-06-02T00:00:00Z").epoch());
        world.act(REPO, moved, &people()[1], at, &Act::Comment);
    });
    let after = pulls["pageInfo"]["endCursor"].as_str();
    let second = page(&github, 10, after).await;
    assert_eq!(numbers(&second), whole[10..20]);
    assert_eq!(numbers(&page(&github, 1, None).await), [moved]);
    github.stop().await;
}

#[tokio::test]
async fn cost_of_a_query_follows_its_size() {
    let (github, _) = grown(11, 3).await;
    let lists =
        "query($n: Int!) { rateLimit { cost nodeCount } repository(owner: \"acme-corp\", name: \"api-server\") {
        pullRequests(first: $n) { nodes { reviews(first: 50) { totalCount } commits(first: 100) { totalCount }
        timelineItems(first: 50) { totalCount } reviewRequests(first: 10) { totalCount } } } } }";
    for (n, cost, nodes) in [
        (10, 1, 2110),
        (25, 1, 5275),
        (50, 2, 10_550),
        (100, 4, 21_100),
    ] {
        let answer = query(&github, lists, json!({"n": n})).await.body;
        assert_eq!(
            answer["data"]["rateLimit"],
            json!({"cost": cost, "nodeCount": nodes})
        );
        assert_eq!(github.requests()[0].cost, cost);
    }
    let many = "{ repository(owner: \"acme-corp\", name: \"api-server\") { pullRequests(first: 100) { nodes { \
        reviews(first: 100) { nodes { comments(first: 100) { totalCount } } } } } } }";
    assert_eq!(
        query(&github, many, json!({})).await.body["errors"][0]["type"],
        "MAX_NODE_LIMIT_EXCEEDED"
    );
    github.stop().await;
}

#[tokio::test]
async fn query_returns_its_fields_and_nothing_else() {
    let (github, _) = grown(12, 3).await;
    let text = "query($n: Int!, $with: Boolean = false) { \
        repository(owner: \"acme-corp\", name: \"api-server\") { \
        ...Named one: pullRequest(number: $n) { number title @include(if: $with) } two: pullRequest(number: 2) { number } \
        none: pullRequest(number: 99) { number } } } fragment Named on Repository { nameWithOwner }";
    let answer = query(&github, text, json!({"n": 1})).await.body;
    let expected =
        json!({"nameWithOwner": REPO, "one": {"number": 1}, "two": {"number": 2}, "none": null});
    assert_eq!(answer["data"]["repository"], expected);
    let error = &answer["errors"][0];
    assert_eq!(
        (&error["type"], &error["path"]),
        (&json!("NOT_FOUND"), &json!(["repository", "none"]))
    );

    let refused = async |selection: &str| {
        let text = format!(
            "{{ repository(owner: \"acme-corp\", name: \"api-server\") {{ {selection} }} }}"
        );
        let answer = query(&github, &text, json!({})).await.body;
        assert!(answer.get("data").is_none(), "{answer}");
        answer["errors"][0].clone()
    };
    assert_eq!(
        refused("pullRequest(number: 1) { titel }").await["extensions"]["code"],
        "undefinedField"
    );
    assert_eq!(
        refused("pullRequests { nodes { number } }").await["type"],
        "MISSING_PAGINATION_BOUNDARIES"
    );
    assert_eq!(
        refused("pullRequests(first: 101) { nodes { number } }").await["type"],
        "EXCESSIVE_PAGINATION"
    );
    github.world(|world| world.repository(REPO).place.private = true);
    let elsewhere = query(
        &github,
        "{ repository(owner: \"a\", name: \"b\") { id } }",
        json!({}),
    )
    .await
    .body;
    assert_eq!(
        (&elsewhere["data"], &elsewhere["errors"][0]["type"]),
        (&json!({"repository": null}), &json!("NOT_FOUND"))
    );
    github.rename(REPO, "acme/server");
    let renamed = query(&github, text, json!({"n": 1})).await.body;
    assert_eq!(
        renamed["data"]["repository"]["nameWithOwner"],
        "acme/server"
    );
    let moved = get(&github, &format!("/repos/{REPO}/pulls?state=all")).await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (
            301,
            &*format!("{}/repositories/{REPO_ID}/pulls?state=all", github.url)
        )
    );
    github.stop().await;
}

#[tokio::test]
async fn faults_are_the_requested_ones() {
    let (github, _) = grown(13, 9).await;
    github.next([Fault::Partial(3)]);
    let partial = query(&github, PAGE, variables(9, None)).await.body;
    let nodes = partial["data"]["repository"]["pullRequests"]["nodes"]
        .as_array()
        .unwrap();
    let null: Vec<_> = nodes.iter().map(Value::is_null).collect();
    assert_eq!(
        null,
        [false, false, true, false, false, true, false, false, true]
    );
    assert_eq!(
        partial["errors"][0]["path"],
        json!(["repository", "pullRequests", "nodes", 2])
    );
    assert_eq!(numbers(&page(&github, 9, None).await).len(), 9);

    github.break_pull(REPO_ID, 4);
    let one = "{ repository(owner: \"acme-corp\", name: \"api-server\") { pullRequest(number: 4) { title } } }";
    assert_eq!(
        query(&github, one, json!({})).await.body["data"]["repository"]["pullRequest"],
        Value::Null
    );
    github.at_most(5);
    let refused = query(&github, PAGE, variables(6, None)).await.body;
    assert_eq!(
        (
            &refused["errors"][0]["type"],
            &refused["data"]["repository"]
        ),
        (&json!("RESOURCE_LIMITS_EXCEEDED"), &Value::Null)
    );
    github.calm();
    assert_eq!(
        page(&github, 9, None).await["repository"]["pullRequests"]["totalCount"],
        9
    );

    let statuses = async |seed| {
        github.disturb(seed, 0.3, vec![Fault::status(502), Fault::status(503)]);
        let mut statuses = Vec::new();
        for _ in 0..50 {
            statuses.push(get(&github, &format!("/repos/{REPO}")).await.status);
        }
        statuses
    };
    let disturbed = statuses(1).await;
    assert_eq!(disturbed, statuses(1).await);
    assert_ne!(disturbed, statuses(2).await);
    let failed = disturbed.iter().filter(|status| **status != 200).count();
    assert!((5..25).contains(&failed), "{disturbed:?}");
    let logged: Vec<_> = github
        .requests()
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(logged[logged.len() - 150..][..50], disturbed);
    github.stop().await;
}
