//! Repositories of teams: the first sight, gifts, claims, and migrated rows.

use chrono::{DateTime, Utc};
use sqlx::Connection;
use sqlx_sqlite::SqliteConnection;
use tallyhook_core::domain::repository::Repository;
use tallyhook_core::domain::task::TaskKey;
use tallyhook_core::github::types::{InstallationId, PrKey, PrNumber, RepoId};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, NotificationFilter, OpenMode, RepositoryObservation, Store, TaskRef,
    TeamId,
};
use testkit::database::{Backend, Database, database};
use testkit::on_every_database;

on_every_database! {
    first_sight_gives_a_repository_to_the_only_team,
    repository_is_unclaimed_beside_other_teams_unless_its_installation_is_claimed,
    decision_of_the_operator_outlives_later_sights,
    team_that_stops_tracking_does_so_for_itself,
}

async fn open(database: &Database) -> Store {
    let store = tallyhook_store::open(&database.url, OpenMode::Exclusive);
    store.await.unwrap()
}

fn sighting(id: i64, installation: Option<i64>) -> RepositoryObservation {
    let mut repository = Repository::named(RepoId(id), &format!("acme/r{id}"));
    repository.installation = installation.map(InstallationId);
    RepositoryObservation {
        repository,
        former_names: std::collections::BTreeMap::new(),
        last_delivery: None,
        tracks: Some(Utc::now()),
    }
}

async fn see(store: &Store, sightings: Vec<RepositoryObservation>) {
    let write = BatchWrite {
        repositories: sightings,
        ..BatchWrite::default()
    };
    store.record(&write, Utc::now()).await.unwrap().unwrap();
}

/// Returns the names of the teams of each repository that is known.
async fn teams(store: &Store) -> Vec<(i64, Vec<String>)> {
    let all = store.repositories_with_teams(false, None, 100).await;
    let all = all.unwrap().into_iter();
    all.map(|row| (row.id.0, row.teams)).collect()
}

fn named(rows: &[(i64, &[&str])]) -> Vec<(i64, Vec<String>)> {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    rows.iter().map(|(id, of)| (*id, names(of))).collect()
}

async fn add_team(database: &Database, id: i64, name: &str) {
    let insert = format!("INSERT INTO teams (id, name) VALUES ({id}, '{name}')");
    database.execute(&insert).await;
}

async fn first_sight_gives_a_repository_to_the_only_team(database: Database) {
    let store = open(&database).await;
    see(&store, vec![sighting(1, None), sighting(2, Some(9))]).await;
    see(&store, vec![sighting(1, None)]).await;
    assert_eq!(
        teams(&store).await,
        named(&[(1, &["default"]), (2, &["default"])])
    );
    store.close().await;
}

async fn repository_is_unclaimed_beside_other_teams_unless_its_installation_is_claimed(
    database: Database,
) {
    let store = open(&database).await;
    add_team(&database, 2, "backend").await;
    add_team(&database, 3, "web").await;
    let now = Utc::now();
    for team in [2, 3] {
        let team = store.of_team(TeamId(team));
        let claim = team.claim_installation(InstallationId(9), "acme", None, now);
        claim.await.unwrap();
    }
    see(
        &store,
        vec![
            sighting(1, None),
            sighting(2, Some(9)),
            sighting(3, Some(8)),
        ],
    )
    .await;
    let expected = named(&[(1, &[]), (2, &["backend", "web"]), (3, &[])]);
    assert_eq!(teams(&store).await, expected);
    let unclaimed = store
        .repositories_with_teams(true, None, 100)
        .await
        .unwrap();
    assert_eq!(
        unclaimed.iter().map(|row| row.id.0).collect::<Vec<_>>(),
        [1, 3]
    );
    // A claim is also about what is known already.
    let web = store.of_team(TeamId(3));
    web.claim_installation(InstallationId(8), "acme", None, now)
        .await
        .unwrap();
    assert_eq!(teams(&store).await[2], (3, vec!["web".to_owned()]));
    assert!(web.release_installation(InstallationId(8)).await.unwrap());
    assert!(!web.release_installation(InstallationId(8)).await.unwrap());
    see(&store, vec![sighting(4, Some(8))]).await;
    assert_eq!(teams(&store).await[3], (4, Vec::new()));
    store.close().await;
}

async fn decision_of_the_operator_outlives_later_sights(database: Database) {
    let store = open(&database).await;
    see(&store, vec![sighting(1, None)]).await;
    let team = store.of_team(DEFAULT_TEAM.0);
    assert!(team.repository_id("acme/r1").await.unwrap().is_some());
    assert!(team.take_repository(RepoId(1)).await.unwrap());
    see(&store, vec![sighting(1, None)]).await;
    assert_eq!(teams(&store).await, named(&[(1, &[])]));
    assert_eq!(team.repository_id("acme/r1").await.unwrap(), None);
    assert!(store.repository_id("acme/r1").await.unwrap().is_some());
    assert!(team.give_repository(RepoId(1)).await.unwrap());
    assert!(
        !team.give_repository(RepoId(77)).await.unwrap(),
        "it is not known"
    );
    assert_eq!(teams(&store).await, named(&[(1, &["default"])]));
    store.close().await;
}

async fn team_that_stops_tracking_does_so_for_itself(database: Database) {
    let store = open(&database).await;
    add_team(&database, 2, "backend").await;
    let [one, two] = [1, 2].map(|team| store.of_team(TeamId(team)));
    let repository = Repository::named(RepoId(1), "acme/r1");
    for team in [&one, &two] {
        assert!(team.track(&repository, Utc::now()).await.unwrap());
        assert!(!team.track(&repository, Utc::now()).await.unwrap());
    }
    assert!(one.untrack(RepoId(1), Utc::now()).await.unwrap());
    assert!(!one.untrack(RepoId(1), Utc::now()).await.unwrap());
    assert_eq!(one.tracked_repository(RepoId(1)).await.unwrap(), None);
    assert!(two.tracked_repository(RepoId(1)).await.unwrap().is_some());
    assert_eq!(
        store.tracked().await.unwrap().len(),
        1,
        "it is polled for the other"
    );
    assert!(two.untrack(RepoId(1), Utc::now()).await.unwrap());
    assert_eq!(store.tracked().await.unwrap(), []);
    assert!(two.track(&repository, Utc::now()).await.unwrap());
    assert_eq!(store.tracked().await.unwrap().len(), 1);
    assert_eq!(one.tracked_repository(RepoId(1)).await.unwrap(), None);
    store.close().await;
}

/// Rows of the version before teams: of everything that a team owns from then on.
const ROWS: &str = "
    INSERT INTO repositories (id, name, seen_at, access, access_at, tracked_since) VALUES
        (7, 'acme/api', 1, 'granted', 1, 1);
    INSERT INTO team_repositories VALUES (1, 7);
    INSERT INTO pull_requests (repo_id, number, version, pr_id, timeline, observed) VALUES
        (7, 5, 1, 'p', '[]', '{}');
    INSERT INTO tasks (id, task_key, title, status, created_at, updated_at) VALUES
        ('6f1c2a94-0000-4000-8000-000000000001', 'K-1', 'one', 'TODO', 1000, 1000),
        ('6f1c2a94-0000-4000-8000-000000000002', NULL, 'two', 'DONE', 1001, 1001);
    INSERT INTO task_links VALUES ('6f1c2a94-0000-4000-8000-000000000001', 7, 5, 1);
    INSERT INTO task_history (task_id, happened_at, recorded_at, new_status, cause) VALUES
        ('6f1c2a94-0000-4000-8000-000000000001', 1, 1000, 'TODO', 'created');
    INSERT INTO channels (name, place) VALUES ('slack', 3);
    INSERT INTO outbox (id, kind, repo_id, repo_name, number, task_id, new_status, happened_at,
        sync_source, recorded_at) VALUES
        (4, 'pr_status_change', 7, 'acme/api', 5, '6f1c2a94-0000-4000-8000-000000000001', 'OPEN', 1,
         'webhook', 1000);
    INSERT INTO notifications (event_id, channel, subject, taken_up_at, next_attempt_at) VALUES
        (4, 'slack', 's', 1000, 1000);
    INSERT INTO monitors (repo_key, repo_name, number, since) VALUES ('acme/api', 'acme/api', 5, 1000);";

#[tokio::test]
async fn rows_of_the_version_before_belong_to_the_team_that_there_was() {
    let database = database(Backend::Sqlite);
    let url = format!("{}?mode=rwc", database.url);
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let migrator = sqlx::migrate!("migrations/sqlite");
    migrator.run_to(27, &mut connection).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let store = open(&database).await;
    let team = store.of_team(DEFAULT_TEAM.0);
    let key = TaskRef::Key(TaskKey::parse("K-1").unwrap());
    let task = team.task(&key).await.unwrap().unwrap();
    let pull_request = PrKey {
        repo: RepoId(7),
        number: PrNumber(5),
    };
    assert_eq!((task.team, task.title.as_str()), (DEFAULT_TEAM.0, "one"));
    assert_eq!(task.prs, [pull_request]);
    assert_eq!(team.task_history(task.id, 9).await.unwrap().len(), 1);
    assert_eq!(team.count_tasks(&Default::default()).await.unwrap(), 2);
    assert_eq!(team.open_channel("slack").await.unwrap().place.0, 3);
    let sent = team
        .notifications(&NotificationFilter::default(), 9)
        .await
        .unwrap();
    let event = &sent[0].event;
    assert_eq!(
        (sent.len(), event.subject.task_key.as_deref()),
        (1, Some("K-1"))
    );
    let watched = team.watch_of("acme/api", PrNumber(5)).await.unwrap();
    assert_eq!(
        watched.unwrap().since,
        DateTime::from_timestamp_millis(1000).unwrap()
    );
    // Another team has nothing of it.
    add_team(&database, 2, "backend").await;
    let other = store.of_team(TeamId(2));
    assert_eq!(other.task(&key).await.unwrap(), None);
    assert_eq!(other.task(&TaskRef::Id(task.id)).await.unwrap(), None);
    assert_eq!(other.count_tasks(&Default::default()).await.unwrap(), 0);
    assert_eq!(other.repository_id("acme/api").await.unwrap(), None);
    assert!(
        other
            .notifications(&NotificationFilter::default(), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        other
            .watch_of("acme/api", PrNumber(5))
            .await
            .unwrap()
            .is_none()
    );
    assert!(!other.has_event(event.id).await.unwrap() && team.has_event(event.id).await.unwrap());
    store.close().await;
}
