//! Tasks: the changes that mark them as due, and that no mark is lost under concurrency.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join_all};
use tallyhook_core::domain::notification::PullRequestStatus;
use tallyhook_core::domain::repository::Repository;
use tallyhook_core::domain::task::{TaskId, TaskKey, TaskStatus, Transition, TransitionCause};
use tallyhook_core::github::types::{PrKey, PrNumber, Timestamp};
use tallyhook_store::{
    BatchWrite, DEFAULT_TEAM, EventId, NewTask, OutboxEvent, OutboxPayload, PendingWork, Store,
    Task, TaskCause, TaskChange, TaskEdit, TaskFilter, TaskPlace, TaskRef, TaskUpdate,
    WorktreeKept,
};
use uuid::Uuid;

use super::outbox::{change, record as record_changes};
use super::{later, now, open};
use testkit::database::Database;
use testkit::histories::KEY;
use testkit::on_every_database;

on_every_database! {
    key_belongs_to_one_task,
    mentions_and_status_changes_of_pull_requests_mark_their_tasks,
    update_of_a_task_that_was_marked_again_is_refused,
    transition_is_recorded_and_published_in_one_transaction,
    event_of_a_pull_request_names_its_oldest_task,
    push_marks_tasks_implemented_on_its_branch,
    failed_cleanup_is_retried_after_its_delay,
    status_set_by_hand_is_kept_and_published_once,
    concurrent_tasks_and_pull_requests_miss_no_mark,
}

fn of_status(status: TaskStatus) -> TaskFilter {
    TaskFilter {
        status: Some(status),
        ..TaskFilter::default()
    }
}

fn pr(number: i64) -> PrKey {
    PrKey {
        repo: KEY.repo,
        number: PrNumber(number),
    }
}

fn key(text: &str) -> TaskKey {
    TaskKey::parse(text).unwrap()
}

fn new(text: &str) -> NewTask {
    NewTask {
        id: TaskId(Uuid::new_v4()),
        key: Some(key(text)),
        title: "A task".to_owned(),
        status: TaskStatus::Todo,
        place: TaskPlace::default(),
    }
}

/// Makes the repository of the pull requests one of the team, since before any of its changes.
pub(super) async fn see_repository(store: &Store) {
    let name = "acme-corp/api-server";
    if store.repository_id(name).await.unwrap().is_some() {
        return;
    }
    let repository = Repository::named(KEY.repo, name);
    let since = chrono::DateTime::UNIX_EPOCH;
    store.track(&repository, since).await.unwrap();
}

pub(super) async fn make(store: &Store, text: &str) -> Task {
    see_repository(store).await;
    let task = new(text);
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .create_task(&task, now())
            .await
            .unwrap()
    );
    get(store, text).await
}

pub(super) async fn get(store: &Store, text: &str) -> Task {
    store
        .of_team(DEFAULT_TEAM.0)
        .task(&TaskRef::Key(key(text)))
        .await
        .unwrap()
        .unwrap()
}

async fn mention(store: &Store, number: i64, keys: &[&str]) {
    let mentions = vec![(pr(number), keys.iter().map(|text| key(text)).collect())];
    store
        .record(
            &BatchWrite {
                mentions,
                ..BatchWrite::default()
            },
            now(),
        )
        .await
        .unwrap()
        .unwrap();
}

pub(super) async fn due(store: &Store) -> Vec<String> {
    let due = store.due_tasks(PendingWork::ALL, now(), 99).await.unwrap();
    let mut keys: Vec<_> = due
        .iter()
        .map(|task| task.key.as_ref().unwrap().to_string())
        .collect();
    keys.sort();
    keys
}

const FOLLOWED: TaskUpdate = TaskUpdate {
    done: PendingWork {
        follow: true,
        push: false,
        cleanup: false,
    },
    moved: None,
    noted: None,
    payload: None,
    worktree_removed: false,
    again: None,
};

pub(super) async fn settle(store: &Store) {
    for task in store.due_tasks(PendingWork::ALL, now(), 99).await.unwrap() {
        assert!(
            store
                .update_task_if_current(
                    &task,
                    &TaskUpdate {
                        done: task.due,
                        ..TaskUpdate::default()
                    },
                    now()
                )
                .await
                .unwrap()
        );
    }
}

async fn key_belongs_to_one_task(database: Database) {
    let store = open(&database).await;
    let task = make(&store, "PROJ-1").await;
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .create_task(&new("proj-1"), now())
            .await
            .unwrap()
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .task(&TaskRef::Id(task.id))
            .await
            .unwrap(),
        Some(task.clone())
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .task(&TaskRef::Key(key("PROJ-2")))
            .await
            .unwrap(),
        None
    );
    let nameless = NewTask {
        key: None,
        ..new("X-1")
    };
    let another = NewTask {
        key: None,
        ..new("X-1")
    };
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .create_task(&nameless, later(1))
            .await
            .unwrap()
            && store
                .of_team(DEFAULT_TEAM.0)
                .create_task(&another, later(1))
                .await
                .unwrap()
    );
    let all = store
        .of_team(DEFAULT_TEAM.0)
        .tasks(&TaskFilter::default(), None, 9)
        .await
        .unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[2], task, "the newest first");
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .tasks(
                &TaskFilter::default(),
                Some((all[0].created_at, all[0].id)),
                1
            )
            .await
            .unwrap(),
        all[1..2]
    );
    for (text, found) in [
        ("proj-1", 1),
        ("PROJ", 1),
        ("%", 0),
        ("_", 0),
        ("nothing", 0),
    ] {
        let filter = TaskFilter {
            text: Some(text.to_owned()),
            ..TaskFilter::default()
        };
        let listed = store
            .of_team(DEFAULT_TEAM.0)
            .tasks(&filter, None, 9)
            .await
            .unwrap();
        let counted = store
            .of_team(DEFAULT_TEAM.0)
            .count_tasks(&filter)
            .await
            .unwrap();
        assert_eq!((listed.len(), counted), (found, found as u64), "{text}");
    }
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .tasks(&of_status(TaskStatus::Done), None, 9)
            .await
            .unwrap(),
        []
    );
}

async fn mentions_and_status_changes_of_pull_requests_mark_their_tasks(database: Database) {
    let store = open(&database).await;
    for text in ["A-1", "A-2", "A-3"] {
        make(&store, text).await;
    }
    assert_eq!(
        due(&store).await,
        ["A-1", "A-2", "A-3"],
        "what is new is to be looked at"
    );
    settle(&store).await;
    mention(&store, 7, &["A-1", "A-2", "B-9"]).await;
    assert_eq!(due(&store).await, ["A-1", "A-2"]);
    assert_eq!(get(&store, "A-1").await.prs, [pr(7)]);
    settle(&store).await;
    mention(&store, 7, &["A-2", "A-3"]).await;
    assert_eq!(
        due(&store).await,
        ["A-1", "A-2", "A-3"],
        "one lost it, one gained it"
    );
    assert_eq!(get(&store, "A-1").await.prs, []);
    settle(&store).await;
    let moved = BTreeSet::from([pr(7), pr(8)]);
    store
        .record(
            &BatchWrite {
                moved,
                ..BatchWrite::default()
            },
            now(),
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(due(&store).await, ["A-2", "A-3"]);
    settle(&store).await;

    let task = get(&store, "A-1").await;
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .link_task(task.id, pr(7), now())
            .await
            .unwrap()
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .link_task(task.id, pr(7), now())
            .await
            .unwrap()
    );
    assert_eq!(due(&store).await, ["A-1"]);
    settle(&store).await;
    let moved = BTreeSet::from([pr(7)]);
    store
        .record(
            &BatchWrite {
                moved,
                ..BatchWrite::default()
            },
            now(),
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(due(&store).await, ["A-1", "A-2", "A-3"]);
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .unlink_task(task.id, pr(7), now())
            .await
            .unwrap()
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .unlink_task(task.id, pr(7), now())
            .await
            .unwrap()
    );
    assert_eq!(get(&store, "A-1").await.prs, []);
}

async fn update_of_a_task_that_was_marked_again_is_refused(database: Database) {
    let store = open(&database).await;
    let seen = make(&store, "A-1").await;
    mention(&store, 7, &["A-1"]).await;
    assert!(
        !store
            .update_task_if_current(&seen, &FOLLOWED, now())
            .await
            .unwrap()
    );
    assert_eq!(due(&store).await, ["A-1"]);
    let seen = get(&store, "A-1").await;
    assert!(
        store
            .update_task_if_current(&seen, &FOLLOWED, now())
            .await
            .unwrap()
    );
    assert!(
        !store
            .update_task_if_current(&seen, &FOLLOWED, now())
            .await
            .unwrap()
    );
}

fn transition(to: TaskStatus, at: i64) -> Transition {
    let at = Timestamp::clamped(now().timestamp() + at);
    Transition {
        from: TaskStatus::Todo,
        to,
        at,
        cause: TransitionCause::PullRequest(pr(7)),
    }
}

async fn transition_is_recorded_and_published_in_one_transaction(database: Database) {
    let store = open(&database).await;
    // Tracks the repository from this time on.
    record_changes(&store, Vec::new()).await;
    let (old, task) = (make(&store, "A-1").await, make(&store, "A-2").await);
    let before = transition(TaskStatus::Done, -301);
    assert!(
        store
            .update_task_if_current(
                &old,
                &TaskUpdate {
                    moved: Some(before),
                    ..FOLLOWED
                },
                later(5)
            )
            .await
            .unwrap()
    );
    assert_eq!(
        store.newest_event().await.unwrap(),
        EventId::BEGINNING,
        "it happened before"
    );
    let moved = transition(TaskStatus::CodeReviewing, 1);
    let kept = WorktreeKept {
        task: task.id,
        key: pr(7),
        reason: "it is dirty".to_owned(),
        at: moved.at,
    };
    let settled = TaskUpdate {
        moved: Some(moved),
        noted: Some((
            TaskCause::WorktreeKept,
            Some(pr(7)),
            "it is dirty".to_owned(),
        )),
        payload: Some(OutboxPayload::WorktreeKept(kept.clone())),
        ..FOLLOWED
    };
    assert!(
        store
            .update_task_if_current(&task, &settled, later(5))
            .await
            .unwrap()
    );
    let events = store.events_after(EventId::BEGINNING, 9).await.unwrap();
    let payloads: Vec<_> = events.iter().map(|event| event.payload.clone()).collect();
    let (old, new) = (TaskStatus::Todo, TaskStatus::CodeReviewing);
    let change = TaskChange {
        task: task.id,
        old,
        new,
        at: moved.at,
        because: Some(pr(7)),
    };
    assert_eq!(
        payloads,
        [
            OutboxPayload::Task(change),
            OutboxPayload::WorktreeKept(kept)
        ]
    );
    assert!(
        events
            .iter()
            .all(|event| event.repo.as_deref() == Some("acme-corp/api-server"))
    );
    let after = get(&store, "A-2").await;
    assert_eq!(
        (after.state.status, after.state.by_hand, after.due),
        (new, None, PendingWork::default())
    );
    assert_eq!((after.updated_at, after.created_at), (later(5), now()));
    let history = store
        .of_team(DEFAULT_TEAM.0)
        .task_history(task.id, 9)
        .await
        .unwrap();
    let causes: Vec<_> = history
        .iter()
        .map(|event| (event.cause, event.old, event.new, event.pull_request))
        .collect();
    assert_eq!(
        causes,
        [
            (TaskCause::WorktreeKept, Some(new), new, Some(pr(7))),
            (TaskCause::PullRequest, Some(old), new, Some(pr(7))),
            (TaskCause::Created, None, old, None),
        ]
    );
    assert_eq!(
        (history[0].note.as_deref(), history[1].at),
        (Some("it is dirty"), moved.at)
    );
}

async fn event_of_a_pull_request_names_its_oldest_task(database: Database) {
    let store = open(&database).await;
    let linked = make(&store, "A-2").await;
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .create_task(&new("A-1"), later(1))
            .await
            .unwrap()
    );
    mention(&store, 3, &["A-1"]).await;
    mention(&store, 4, &["A-1", "B-1"]).await;
    store
        .of_team(DEFAULT_TEAM.0)
        .link_task(linked.id, pr(4), now())
        .await
        .unwrap();
    let open = |number| change(number, None, PullRequestStatus::Open, 0);
    record_changes(&store, vec![open(3), open(4), open(5)]).await;
    let events = store.events_after(EventId::BEGINNING, 9).await.unwrap();
    let of_team = |event: &OutboxEvent| event.of_team(DEFAULT_TEAM.0).unwrap();
    let tasks = events.iter().map(of_team).map(|event| match event.payload {
        OutboxPayload::PullRequest(change, task) => (change.key.number.0, task),
        ref other => panic!("{other:?}"),
    });
    let named = get(&store, "A-1").await.id;
    assert_eq!(
        tasks.collect::<Vec<_>>(),
        [(3, Some(named)), (4, Some(linked.id)), (5, None)]
    );
}

async fn push_marks_tasks_implemented_on_its_branch(database: Database) {
    let store = open(&database).await;
    record_changes(&store, Vec::new()).await;
    let place = |repo: &str, branch: &str| TaskPlace {
        repo: Some(repo.to_owned()),
        branch: Some(branch.to_owned()),
        worktree: None,
    };
    for (text, status, place) in [
        (
            "A-1",
            TaskStatus::Implementing,
            place("Acme-Corp/api-server", "here"),
        ),
        (
            "A-2",
            TaskStatus::Todo,
            place("acme-corp/api-server", "here"),
        ),
        (
            "A-3",
            TaskStatus::Implementing,
            place("acme-corp/api-server", "there"),
        ),
        (
            "A-4",
            TaskStatus::Implementing,
            place("acme-corp/web", "here"),
        ),
    ] {
        assert!(
            store
                .of_team(DEFAULT_TEAM.0)
                .create_task(
                    &NewTask {
                        status,
                        place,
                        ..new(text)
                    },
                    now()
                )
                .await
                .unwrap()
        );
    }
    settle(&store).await;
    let pushes = BTreeSet::from([
        (KEY.repo, "here".to_owned()),
        (KEY.repo, "nowhere".to_owned()),
    ]);
    store
        .record(
            &BatchWrite {
                pushes,
                ..BatchWrite::default()
            },
            now(),
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(due(&store).await, ["A-1"]);
    assert_eq!(
        get(&store, "A-1").await.due,
        PendingWork {
            push: true,
            ..PendingWork::default()
        }
    );
}

async fn failed_cleanup_is_retried_after_its_delay(database: Database) {
    let store = open(&database).await;
    let place = TaskPlace {
        worktree: Some("tree".to_owned()),
        ..TaskPlace::default()
    };
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .create_task(
                &NewTask {
                    place,
                    ..new("A-1")
                },
                now()
            )
            .await
            .unwrap()
    );
    let task = get(&store, "A-1").await;
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .link_task(task.id, pr(7), now())
            .await
            .unwrap()
    );
    let task = get(&store, "A-1").await;
    assert_eq!(
        task.due,
        PendingWork {
            follow: true,
            cleanup: true,
            push: false
        }
    );
    assert!(
        store
            .update_task_if_current(
                &task,
                &TaskUpdate {
                    again: Some(later(60)),
                    ..FOLLOWED
                },
                now()
            )
            .await
            .unwrap()
    );
    assert_eq!(
        store
            .due_tasks(PendingWork::ALL, later(59), 9)
            .await
            .unwrap(),
        []
    );
    let due = store
        .due_tasks(PendingWork::ALL, later(60), 9)
        .await
        .unwrap();
    assert_eq!(
        (due.len(), due[0].tries, due[0].due),
        (
            1,
            1,
            PendingWork {
                cleanup: true,
                ..PendingWork::default()
            }
        )
    );
    let settled = TaskUpdate {
        done: due[0].due,
        worktree_removed: true,
        ..TaskUpdate::default()
    };
    assert!(
        store
            .update_task_if_current(&due[0], &settled, now())
            .await
            .unwrap()
    );
    let task = get(&store, "A-1").await;
    assert_eq!(
        (task.tries, task.due, task.place.worktree),
        (0, PendingWork::default(), None)
    );
}

async fn status_set_by_hand_is_kept_and_published_once(database: Database) {
    let store = open(&database).await;
    let task = make(&store, "A-1").await;
    let edit = TaskEdit {
        title: Some("Another\0title".to_owned()),
        status: Some(TaskStatus::Implementing),
        branch: Some(Some("b".to_owned())),
        ..TaskEdit::default()
    };
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .edit_task(task.id, &edit, later(3))
            .await
            .unwrap()
    );
    let after = get(&store, "A-1").await;
    let by_hand = after.state.by_hand.unwrap();
    assert_eq!(
        (by_hand.status, by_hand.at),
        (TaskStatus::Implementing, later(3).into())
    );
    assert_eq!(
        (&*after.title, after.place.branch.as_deref()),
        ("Another\u{fffd}title", Some("b"))
    );
    let same = TaskEdit {
        status: Some(TaskStatus::Implementing),
        ..TaskEdit::default()
    };
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .edit_task(task.id, &same, later(4))
            .await
            .unwrap()
    );
    let again = get(&store, "A-1").await;
    assert_eq!(again.state.by_hand.unwrap().at, later(4).into());
    assert_eq!((again.title, again.place), (after.title, after.place));
    let events = store.events_after(EventId::BEGINNING, 9).await.unwrap();
    let (old, new) = (TaskStatus::Todo, TaskStatus::Implementing);
    let change = TaskChange {
        task: task.id,
        old,
        new,
        at: later(3).into(),
        because: None,
    };
    assert_eq!(
        events
            .iter()
            .map(|event| &event.payload)
            .collect::<Vec<_>>(),
        [&OutboxPayload::Task(change)],
        "once"
    );
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .task_history(task.id, 9)
            .await
            .unwrap()
            .len(),
        2
    );
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .edit_task(TaskId(Uuid::new_v4()), &edit, now())
            .await
            .unwrap()
    );
}

/// The reader moves each task that has a pull request. In the end every task must have moved.
async fn concurrent_tasks_and_pull_requests_miss_no_mark(database: Database) {
    const TASKS: i64 = 60;
    let store = open(&database).await;
    see_repository(&store).await;
    let name = |number: i64| format!("A-{number}");
    let is_over = AtomicBool::new(false);
    let look = async || {
        for task in store.due_tasks(PendingWork::ALL, now(), 99).await.unwrap() {
            let moved = (!task.prs.is_empty() && task.state.status == TaskStatus::Todo)
                .then(|| transition(TaskStatus::CodeReviewing, 1));
            store
                .update_task_if_current(&task, &TaskUpdate { moved, ..FOLLOWED }, now())
                .await
                .unwrap();
        }
    };
    let writers = (1..=TASKS).map(|number| {
        let (store, name) = (&store, &name);
        join(
            async move {
                assert!(
                    store
                        .of_team(DEFAULT_TEAM.0)
                        .create_task(&new(&name(number)), now())
                        .await
                        .unwrap()
                )
            },
            async move { mention(store, number, &[&name(number)]).await },
        )
    });
    let write = async {
        join_all(writers).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let follow = async {
        while !is_over.load(Ordering::Relaxed) {
            look().await;
        }
    };
    join(write, follow).await;
    while !due(&store).await.is_empty() {
        look().await;
    }
    let tasks = store
        .of_team(DEFAULT_TEAM.0)
        .tasks(&of_status(TaskStatus::CodeReviewing), None, 99)
        .await
        .unwrap();
    assert_eq!(tasks.len() as i64, TASKS);
}
