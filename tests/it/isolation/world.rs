//! A server with two teams that call their things alike.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tallyhook::api::auth;
use tallyhook::app::ServerOptions;
use tallyhook::config::{ChannelConfig, ChannelFilter, ChannelHours, ChannelReceiver};
use tallyhook_core::domain::repository::Repository;
use tallyhook_core::domain::task::{TaskKey, TaskStatus};
use tallyhook_core::github::types::{PrNumber, RepoId};
use tallyhook_store::{AccessRole, NewToken, RunOptions, TaskRef, TeamId};
use testkit::payloads::{self, Account, Pr, Team, World as PayloadWorld};
use testkit::receiver::Receiver;
use testkit::{Place, TestServer, config, eventually};

/// A text that stands in everything of team A, and in nothing else.
pub(super) const CANARY: &str = "zebrafinch";

/// One of the two teams.
pub(super) struct TeamWorld {
    pub(super) team: TeamId,
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) channel: String,
    pub(super) task_id: String,
    pub(super) sync_run: i64,
    pub(super) event_id: String,
    /// Tokens by role.
    pub(super) viewer: String,
    pub(super) member: String,
    pub(super) admin: String,
}

impl TeamWorld {
    pub(super) fn repo(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// The key that both teams have a task of, and the name of a token of both.
pub(super) const TASK_KEY: &str = "SAME-1";
const TOKEN_NAME: &str = "same";
/// The events of each team: three of pull requests, and the status of its task after each.
const EVENTS: usize = 6;
/// The number of the pull request that both teams have.
pub(super) const NUMBER: i64 = 7;

/// A server with the teams `alpha`, which is A, and `beta`.
pub(super) struct TwoTeams {
    pub(super) server: TestServer,
    pub(super) a: TeamWorld,
    pub(super) b: TeamWorld,
    /// Receives the notifications of both.
    pub(super) receiver: Receiver,
}

/// An answer with all that a caller sees of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenAnswer {
    pub(super) status: StatusCode,
    /// The names of its headers.
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

impl TwoTeams {
    /// Starts a server on which both teams have one of everything. A has done nothing, and has only
    /// its tokens, unless `busy`.
    pub(super) async fn start(busy: bool) -> Self {
        let place = Place::new().await;
        let receiver = Receiver::start().await;
        let mut settings = config(&place);
        tallyhook_store::open(&settings.database_url, tallyhook_store::OpenMode::Exclusive)
            .await
            .unwrap()
            .close()
            .await;
        place
            .execute("INSERT INTO teams (id, name) VALUES (2, 'alpha'), (3, 'beta')")
            .await;
        let channel = |name: &str, team: &str| ChannelConfig {
            name: name.to_owned(),
            team: Some(team.to_owned()),
            receiver: ChannelReceiver::Webhook { secret: None },
            url: receiver.url.clone(),
            filter: ChannelFilter::default(),
            hours: ChannelHours::default(),
        };
        let channel_a = format!("{CANARY}-ops");
        settings.notify.channels = vec![channel(&channel_a, "alpha"), channel("beta-ops", "beta")];
        settings.default_repository = Some(format!("{CANARY}-corp/{CANARY}-api"));
        settings.default_repository_team = Some("alpha".to_owned());
        let mut server = TestServer::start_as(&settings, place, ServerOptions::default()).await;
        let mut a = of_team(
            &server,
            2,
            format!("{CANARY}-corp"),
            format!("{CANARY}-api"),
        )
        .await;
        a.channel = channel_a;
        let mut b = of_team(&server, 3, "beta-corp".to_owned(), "beta-api".to_owned()).await;
        b.channel = "beta-ops".to_owned();
        // B's first: it has the same ids in both worlds.
        fill(&mut server, &mut b, 222, "own").await;
        if busy {
            fill(&mut server, &mut a, 111, CANARY).await;
        }
        Self {
            server,
            a,
            b,
            receiver,
        }
    }

    /// Sends a request with a token.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> SeenAnswer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self
            .server
            .http
            .request(method, format!("{}{path}", self.server.url));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let mut headers: Vec<_> = response.headers().keys().map(ToString::to_string).collect();
        headers.sort_unstable();
        SeenAnswer {
            status: response.status(),
            headers,
            body: response.text().await.unwrap(),
        }
    }
}

/// Makes the tokens of a team.
async fn of_team(server: &TestServer, team: i64, owner: String, name: String) -> TeamWorld {
    let mut tokens = Vec::new();
    for (role, name) in [
        (AccessRole::Viewer, TOKEN_NAME),
        (AccessRole::Member, "member"),
        (AccessRole::Admin, "admin"),
    ] {
        // Names are unique in a team.
        tokens.push(token(server, TeamId(team), &format!("{name}-{team}"), role, 60).await);
    }
    let [viewer, member, admin] = tokens.try_into().unwrap();
    TeamWorld {
        team: TeamId(team),
        owner,
        name,
        channel: String::new(),
        task_id: uuid::Uuid::nil().to_string(),
        sync_run: 0,
        event_id: String::new(),
        viewer,
        member,
        admin,
    }
}

/// Makes a token of a team that ends in so many minutes.
pub(super) async fn token(
    server: &TestServer,
    team: TeamId,
    name: &str,
    role: AccessRole,
    minutes: i64,
) -> String {
    let token = auth::new_token();
    let new = NewToken {
        name,
        hash: &auth::hash(&token),
        team,
        role,
        login: None,
        created_by: None,
        created_at: Utc::now(),
        expires_at: Some(Utc::now() + TimeDelta::minutes(minutes)),
    };
    assert!(server.running.store.create_token(&new).await.unwrap());
    token
}

/// Gives a team a repository with pull requests, a task, a backfill, a watch and notifications.
async fn fill(server: &mut TestServer, world: &mut TeamWorld, id: i64, mark: &str) {
    let store = server.running.store.clone();
    let of_team = store.of_team(world.team);
    let repository = Repository::named(RepoId(id), &world.repo());
    of_team
        .track(&repository, DateTime::UNIX_EPOCH)
        .await
        .unwrap();
    let body = json!({
        "key": TASK_KEY, "title": format!("{mark} a task"), "status": "IMPLEMENTING",
        "repo": world.repo(), "branch": format!("{mark}-branch"),
    });
    let made = server
        .http
        .post(format!("{}/api/tasks", server.url))
        .bearer_auth(&world.member)
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    world.task_id = made["id"].as_str().unwrap().to_owned();
    // A key that the other team does not have.
    let body = json!({"key": format!("{mark}-1"), "title": format!("{mark} another task")});
    let made = server
        .http
        .post(format!("{}/api/tasks", server.url))
        .bearer_auth(&world.member)
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    deliver(server, world, id, mark).await;
    let options = RunOptions {
        days_back: 30,
        max_prs: 10,
        commits: false,
    };
    let run = store.request_run(RepoId(id), &options, Utc::now()).await;
    world.sync_run = run.unwrap().unwrap().id.0;
    let number = PrNumber(NUMBER);
    of_team
        .watch(&world.repo(), number, Utc::now())
        .await
        .unwrap();
    store
        .record_watch_check(
            &world.repo(),
            number,
            Utc::now(),
            Err(&format!("{mark} fails")),
        )
        .await
        .unwrap();
    // Until its channel took them all.
    let filter = tallyhook_store::NotificationFilter::default();
    eventually("notifications are sent", async || {
        let rows = of_team.notifications(&filter, 10).await.unwrap();
        let sent = tallyhook_store::NotificationState::Sent;
        rows.len() >= EVENTS && rows.iter().all(|row| row.state == sent)
    })
    .await;
    let rows = of_team.notifications(&filter, 1).await.unwrap();
    world.event_id = rows[0].event.id.to_string();
}

/// Posts the webhooks of two pull requests: one that is merged, one that waits for a review.
async fn deliver(server: &mut TestServer, world: &TeamWorld, id: i64, mark: &str) {
    let github = PayloadWorld {
        owner: Account::organization(900_000_000 + id, &world.owner),
        repo: world.name.clone(),
        repo_id: id,
        ..PayloadWorld::acme()
    };
    let author = Account::user(910_000_000 + id, &format!("{mark}mira{id}"));
    let created = Utc::now() - TimeDelta::days(3);
    let at = |hours: i64| {
        (created + TimeDelta::hours(hours)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    };
    let title = format!("{mark} {TASK_KEY} sort");
    let branch = format!("{mark}-branch");
    let mut merged = Pr::new(&github, NUMBER, Some(&author), &title, &branch, &at(0));
    let opened = payloads::pull_request_event(&merged, "opened", &author, json!({}));
    merged.merge(&author, &at(5));
    let closed = payloads::pull_request_event(&merged, "closed", &author, json!({}));
    let mut open = Pr::new(
        &github,
        8,
        Some(&author),
        &title,
        &format!("{mark}-open"),
        &at(6),
    );
    open.requested_teams = vec![Team {
        id: 920_000_000 + id,
        slug: format!("{mark}team{id}"),
    }];
    let asked = payloads::pull_request_event(&open, "opened", &author, json!({}));
    let of_team = server.running.store.of_team(world.team);
    let task = TaskRef::Key(TaskKey::parse(TASK_KEY).unwrap());
    let deliveries = [
        (opened, TaskStatus::CodeReviewing),
        (closed, TaskStatus::Done),
        (asked, TaskStatus::CodeReviewing),
    ];
    for (place, (body, status)) in deliveries.into_iter().enumerate() {
        let guid = format!("00000000-0000-4000-8000-{id:06}{place:06}");
        let body = body.to_string();
        let answer = server.post("pull_request", &guid, body.as_bytes()).await;
        assert_eq!(answer.0, 202, "{answer:?}");
        // Each status by itself, so that both worlds have the same events.
        eventually("the task follows", async || {
            let found = of_team.task(&task).await.unwrap().unwrap();
            found.state.status == status
        })
        .await;
    }
    server.drained().await;
}

/// Returns true if an answer has a trace of team A.
pub(super) fn has_canary(answer: &SeenAnswer) -> bool {
    answer.body.to_lowercase().contains(CANARY)
}
