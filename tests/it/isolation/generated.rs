//! Every operation of the OpenAPI document, asked by every kind of caller.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tallyhook_store::AccessRole;
use testkit::TOKEN;
use testkit::conformity::operations;

use super::world::{CANARY, NUMBER, SeenAnswer, TASK_KEY, TeamWorld, TwoTeams, has_canary, token};

/// The ids of a call's path: of a team's things, or of none.
struct PathIds {
    owner: String,
    name: String,
    number: i64,
    task: String,
    sync_run: i64,
    event: String,
    channel: String,
    token: String,
}

impl PathIds {
    fn of(team: &TeamWorld) -> Self {
        Self {
            owner: team.owner.clone(),
            name: team.name.clone(),
            number: NUMBER,
            task: team.task_id.clone(),
            sync_run: team.sync_run,
            event: team.event_id.clone(),
            channel: team.channel.clone(),
            token: format!("same-{}", team.team.0),
        }
    }

    /// Ids of which there is nothing, as long as those of things.
    fn of_nothing() -> Self {
        Self {
            owner: "nobody-corp".to_owned(),
            name: "nothing".to_owned(),
            number: NUMBER,
            task: "6f1c2a94-0000-4000-8000-000000000000".to_owned(),
            sync_run: 999,
            event: format!("{:019}", 999),
            channel: "nothing-ops".to_owned(),
            token: "nothing".to_owned(),
        }
    }

    /// Returns the value of a path parameter, whose operation says which thing an `id` is of.
    ///
    /// # Panics
    /// If there is no generator: a new parameter has to get one here.
    fn value(&self, path: &str, parameter: &str) -> String {
        let is_of = |beginning: &str| path.starts_with(beginning);
        match parameter {
            "owner" => self.owner.clone(),
            "repo" => self.name.clone(),
            "number" => self.number.to_string(),
            "id" if is_of("/api/tasks/") || is_of("/api/stories/") => self.task.clone(),
            "id" if is_of("/api/sync-runs/") => self.sync_run.to_string(),
            "event_id" => self.event.clone(),
            "channel" => self.channel.clone(),
            "name" if is_of("/api/channels/") => self.channel.clone(),
            "name" if is_of("/api/tokens/") => self.token.clone(),
            // Of a session of one's own, which other tests are about.
            "id" if is_of("/api/me/sessions/") => "999999".to_owned(),
            // Of deliveries, which operators alone see.
            "id" if is_of("/api/deliver") || is_of("/api/dead-letters/") => "1".to_owned(),
            "guid" => "none".to_owned(),
            _ => panic!("{path}: there is no generator for the parameter {parameter}"),
        }
    }

    fn fill(&self, path: &str) -> String {
        let parts = path.split('/').map(|part| {
            let name = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'));
            name.map_or_else(|| part.to_owned(), |name| self.value(path, name))
        });
        parts.collect::<Vec<_>>().join("/")
    }
}

/// Returns a body that an operation takes, about things of `ids`.
fn body(operation: &Value, ids: &PathIds) -> Option<Value> {
    operation.get("requestBody")?;
    let repo = format!("{}/{}", ids.owner, ids.name);
    Some(match operation["operationId"].as_str().unwrap() {
        "track_repository" => json!({"repo": repo}),
        "create_task" => json!({"key": "OWN-1", "title": "own", "repo": repo}),
        "change_task" => json!({"title": "changed"}),
        "link_pull_request" => json!({"repo": repo, "number": NUMBER}),
        "create_token" => json!({"name": "made", "role": "viewer"}),
        _ => json!({}),
    })
}

fn operation_class(operation: &Value) -> &str {
    operation["x-tallyhook-access"]["class"]
        .as_str()
        .expect("an operation without x-tallyhook-access")
}

fn role_of(operation: &Value) -> Option<AccessRole> {
    serde_json::from_value(operation["x-tallyhook-access"]["role"].clone()).ok()
}

fn is_parametrized(path: &str) -> bool {
    path.contains('{')
}

/// Replaces ids that an answer repeats from its own request.
fn without_own_ids(answer: &SeenAnswer, ids: &PathIds) -> SeenAnswer {
    let mut answer = answer.clone();
    for id in [
        format!("{}/{}", ids.owner, ids.name),
        ids.task.clone(),
        ids.event.clone(),
        ids.channel.clone(),
        ids.token.clone(),
    ] {
        answer.body = answer.body.replace(&id, "ID");
    }
    answer
}

#[tokio::test]
async fn what_is_of_another_team_answers_like_what_does_not_exist() {
    let world = TwoTeams::start(true).await;
    let (theirs, nothing) = (PathIds::of(&world.a), PathIds::of_nothing());
    let callers = [
        ("viewer of B", &world.b.viewer),
        ("member of B", &world.b.member),
        ("admin of B", &world.b.admin),
    ];
    let (mut compared, mut asked) = (0, BTreeSet::new());
    for (method, path, operation) in operations() {
        if operation_class(operation) != "team" || path == "/ws" {
            continue;
        }
        let has_body_about_ids = body(operation, &theirs) != body(operation, &nothing);
        // A task may name any repository, and its key is one's own: the differential test creates some.
        let is_creation = operation["operationId"] == "create_task";
        if is_creation || (!is_parametrized(path) && !has_body_about_ids) {
            continue;
        }
        asked.insert(operation["operationId"].as_str().unwrap());
        for (who, token) in callers {
            let ask = async |ids: &PathIds| {
                let (path, body) = (ids.fill(path), body(operation, ids));
                let answer = world.ask(&method, &path, Some(token), body.as_ref()).await;
                without_own_ids(&answer, ids)
            };
            let (of_theirs, of_nothing) = (ask(&theirs).await, ask(&nothing).await);
            assert_eq!(of_theirs, of_nothing, "{method} {path} by the {who}");
            assert!(
                !has_canary(&of_theirs),
                "{method} {path} by the {who}: {of_theirs:?}"
            );
            compared += 1;
        }
    }
    // Nothing of A has changed by all that.
    let own = PathIds::of(&world.a);
    for path in [
        "/api/tasks/{id}",
        "/api/sync-runs/{id}",
        "/api/repos/{owner}/{repo}/prs/{number}",
    ] {
        let answer = world
            .ask("GET", &own.fill(path), Some(&world.a.viewer), None)
            .await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(!answer.body.contains("changed"), "{path}: {answer:?}");
    }
    assert!(
        asked.len() >= 17 && compared >= 51,
        "{} {compared}: {asked:?}",
        asked.len()
    );
    world.server.stop().await;
}

/// The parameters of lists that name things, with the thing of a team.
fn parameters(ids: &PathIds) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("repo", format!("{}/{}", ids.owner, ids.name)),
        ("channel", ids.channel.clone()),
        ("author", format!("{}mira111", CANARY)),
        ("waiting_on", format!("github_team:{}team111", CANARY)),
        ("github_team", format!("{}team111", CANARY)),
        ("q", CANARY.to_owned()),
    ])
}

#[tokio::test]
async fn parameter_that_names_a_thing_of_another_team_answers_like_one_that_names_nothing() {
    let world = TwoTeams::start(true).await;
    let (theirs, nothing) = (PathIds::of(&world.a), PathIds::of_nothing());
    let known = parameters(&theirs);
    let unknown: BTreeMap<_, _> = known
        .iter()
        .map(|(name, value)| {
            let value = match *name {
                "repo" => format!("{}/{}", nothing.owner, nothing.name),
                "channel" => nothing.channel.clone(),
                "author" => "nobody".to_owned(),
                _ => value.replace(CANARY, "nothing"),
            };
            (*name, value)
        })
        .collect();
    let mut compared = 0;
    for (method, path, operation) in operations() {
        if method != "GET" || operation_class(operation) != "team" || is_parametrized(path) {
            continue;
        }
        let own = operation["parameters"].as_array().into_iter().flatten();
        for name in own.filter_map(|parameter| parameter["name"].as_str()) {
            let (Some(theirs), Some(nothing)) = (known.get(name), unknown.get(name)) else {
                continue;
            };
            // A range is compared only with a beginning.
            let rest = if path == "/api/metrics/compare" {
                "&from=30d"
            } else {
                ""
            };
            let ask = async |value: &str| {
                let path = format!("{path}?{name}={value}{rest}");
                let answer = world.ask("GET", &path, Some(&world.b.admin), None).await;
                let body = answer.body.replace(value, "VALUE");
                SeenAnswer {
                    body: super::differential::without_times(&body),
                    ..answer
                }
            };
            assert_eq!(ask(theirs).await, ask(nothing).await, "{path}?{name}=");
            compared += 1;
        }
    }
    assert!(compared >= 14, "{compared}");
    world.server.stop().await;
}

/// The answers to B that have a trace of A, of all reads that a team or anyone may make, and the numbers
/// of answers and of calls that are full of A for A itself.
pub(super) async fn traces(world: &TwoTeams) -> (Vec<String>, usize, usize) {
    let (mut traces, mut answers, mut seen_by_a) = (Vec::new(), 0, 0);
    let mut look = |path: &str, answer: &SeenAnswer| {
        answers += 1;
        // Names of channels are labels of metrics, which the operator chooses.
        let body = answer.body.replace(&world.a.channel, "channel");
        if body.to_lowercase().contains(CANARY) {
            traces.push(path.to_owned());
        }
    };
    for (method, path, operation) in operations() {
        let class = operation_class(operation);
        if method != "GET" || class == "instance" || path == "/ws" {
            continue;
        }
        // Of parametrized calls those about B's own things.
        let own = PathIds::of(&world.b).fill(path);
        for token in [
            Some(&world.b.viewer),
            Some(&world.b.member),
            Some(&world.b.admin),
            None,
        ] {
            let answer = world
                .ask("GET", &own, token.map(String::as_str), None)
                .await;
            look(&own, &answer);
        }
        let page = format!("{own}?per_page=1");
        let answer = world.ask("GET", &page, Some(&world.b.admin), None).await;
        look(&page, &answer);
        // The text would be found: A's own answers are full of it.
        let own = PathIds::of(&world.a).fill(path);
        let answer = world.ask("GET", &own, Some(&world.a.admin), None).await;
        seen_by_a += usize::from(has_canary(&answer));
    }
    (traces, answers, seen_by_a)
}

#[tokio::test]
async fn no_answer_has_a_trace_of_another_team() {
    let world = TwoTeams::start(true).await;
    let (traces, answers, seen_by_a) = traces(&world).await;
    assert!(traces.is_empty(), "{traces:?}");
    assert!(answers >= 100 && seen_by_a >= 12, "{answers} {seen_by_a}");
    world.server.stop().await;
}

#[tokio::test]
async fn no_page_has_a_trace_of_another_team() {
    let world = TwoTeams::start(true).await;
    let mut seen_by_a = 0;
    for page in [
        "/",
        "/prs",
        "/prs?state=all",
        "/flow",
        "/explain",
        "/load",
        "/repos",
        "/tasks",
        "/channels",
        "/settings",
        "/wall",
    ] {
        let get = async |token: &str| {
            let answer = world.ask("GET", page, Some(token), None).await;
            (answer.status.as_u16(), answer.body.to_lowercase())
        };
        let (status, body) = get(&world.b.admin).await;
        assert_eq!(status, 200, "{page}: {body}");
        assert!(!body.contains(CANARY), "{page}: {body}");
        seen_by_a += usize::from(get(&world.a.admin).await.1.contains(CANARY));
    }
    assert!(seen_by_a >= 6, "{seen_by_a}");
    world.server.stop().await;
}

/// The eight kinds of callers, with the role that each has for things of A; none is refused as one
/// without a token.
async fn callers(world: &TwoTeams) -> Vec<(&'static str, Option<String>, Option<AccessRole>)> {
    let expired = token(
        &world.server,
        world.a.team,
        "expired",
        AccessRole::Admin,
        -1,
    )
    .await;
    let revoked = token(
        &world.server,
        world.a.team,
        "revoked",
        AccessRole::Admin,
        60,
    )
    .await;
    let store = &world.server.running.store;
    let now = chrono::Utc::now();
    assert!(
        store
            .revoke_token(world.a.team, "revoked", now)
            .await
            .unwrap()
    );
    vec![
        (
            "viewer of A",
            Some(world.a.viewer.clone()),
            Some(AccessRole::Viewer),
        ),
        (
            "member of A",
            Some(world.a.member.clone()),
            Some(AccessRole::Member),
        ),
        (
            "admin of A",
            Some(world.a.admin.clone()),
            Some(AccessRole::Admin),
        ),
        (
            "admin of B",
            Some(world.b.admin.clone()),
            Some(AccessRole::Admin),
        ),
        (
            "operator",
            Some(TOKEN.to_owned()),
            Some(AccessRole::Operator),
        ),
        ("token of A that was revoked", Some(revoked), None),
        ("token of A that has expired", Some(expired), None),
        ("nobody", None, None),
    ]
}

#[tokio::test]
async fn role_below_that_of_the_call_is_refused_whatever_the_id() {
    let world = TwoTeams::start(true).await;
    let callers = callers(&world).await;
    let (theirs, nothing) = (PathIds::of(&world.a), PathIds::of_nothing());
    let (mut calls, mut comparisons) = (0, 0);
    for (method, path, operation) in operations() {
        let Some(needed) = role_of(operation).filter(|_| path != "/ws") else {
            continue;
        };
        calls += 1;
        for (who, token, role) in &callers {
            let refused = match role {
                None => 401,
                Some(role) if *role < needed => 403,
                Some(_) => continue,
            };
            let mut answers = Vec::new();
            for ids in [&theirs, &nothing] {
                let body = body(operation, ids);
                let path = ids.fill(path);
                answers.push(
                    world
                        .ask(&method, &path, token.as_deref(), body.as_ref())
                        .await,
                );
            }
            // One who sends many wrong tokens is told to wait.
            let status = answers[0].status.as_u16();
            let is_refused = status == refused || (refused == 401 && status == 429);
            assert!(is_refused, "{method} {path} by {who}: {status}");
            if refused == 403 {
                assert_eq!(answers[0], answers[1], "{method} {path} by {who}");
            }
            comparisons += 1;
        }
    }
    assert!(calls >= 60 && comparisons >= 200, "{calls} {comparisons}");
    world.server.stop().await;
}

#[tokio::test]
async fn things_of_both_teams_may_be_called_alike() {
    let world = TwoTeams::start(true).await;
    for team in [&world.a, &world.b] {
        let path = format!("/api/tasks/{TASK_KEY}");
        let answer = world.ask("GET", &path, Some(&team.viewer), None).await;
        let task: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(task["id"], team.task_id);
        // Its key is in the title of a pull request of each team, which is linked to its own.
        let linked: Vec<_> = task["prs"].as_array().unwrap().iter().collect();
        assert!(!linked.is_empty(), "{task}");
        assert!(linked.iter().all(|pr| pr["repo"] == team.repo()), "{task}");
        let body = json!({"key": TASK_KEY, "title": "again"});
        let answer = world
            .ask("POST", "/api/tasks", Some(&team.member), Some(&body))
            .await;
        assert_eq!(answer.status, 409, "{answer:?}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn operator_gives_a_repository_and_takes_it_away() {
    let world = TwoTeams::start(true).await;
    let store = &world.server.running.store;
    let pull_request = format!("/api/repos/{}/prs/{NUMBER}", world.a.repo());
    let seen = async |team: &TeamWorld| {
        let answer = world
            .ask("GET", &pull_request, Some(&team.viewer), None)
            .await;
        answer.status.as_u16()
    };
    assert_eq!((seen(&world.a).await, seen(&world.b).await), (200, 404));
    let repo = store.repository_id(&world.a.repo()).await.unwrap().unwrap();
    let b = store.of_team(world.b.team);
    assert!(b.give_repository(repo).await.unwrap());
    assert!(!b.give_repository(repo).await.unwrap());
    assert_eq!((seen(&world.a).await, seen(&world.b).await), (200, 200));
    let a = store.of_team(world.a.team);
    assert!(a.take_repository(repo).await.unwrap());
    assert!(!a.take_repository(repo).await.unwrap());
    assert_eq!((seen(&world.a).await, seen(&world.b).await), (404, 200));
    // The task that follows its pull requests has lost it, and tells nothing of it.
    let path = format!("/api/tasks/{TASK_KEY}");
    let answer = world.ask("GET", &path, Some(&world.a.viewer), None).await;
    let task: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(task["prs"], json!([]));
    // The calls are the operator's, who sees every repository with its teams.
    let path = format!("/api/repositories/{}", world.a.repo());
    for (method, token, expected) in [
        ("PUT", &world.b.admin, 403),
        ("DELETE", &world.b.admin, 403),
        ("PUT", &TOKEN.to_owned(), 204),
        ("DELETE", &TOKEN.to_owned(), 204),
        ("DELETE", &TOKEN.to_owned(), 404),
    ] {
        let answer = world.ask(method, &path, Some(token), None).await;
        assert_eq!(answer.status, expected, "{method}: {answer:?}");
    }
    let answer = world
        .ask("GET", "/api/repositories", Some(TOKEN), None)
        .await;
    let list: Value = serde_json::from_str(&answer.body).unwrap();
    let teams: BTreeMap<_, _> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["repo"].as_str().unwrap(), item["teams"].clone()))
        .collect();
    assert_eq!(teams[world.a.repo().as_str()], json!(["beta"]));
    assert_eq!(teams[world.b.repo().as_str()], json!(["beta"]));
    world.server.stop().await;
}
