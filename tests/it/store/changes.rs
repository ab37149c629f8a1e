//! Changes for open pages: each kind of write notes what it changed, in its own transaction.

use std::collections::BTreeSet;

use tallyhook_core::domain::notification::PullRequestStatus;
use tallyhook_core::github::types::{PrKey, PrNumber};
use tallyhook_store::{
    AttemptResult, BatchWrite, ChangeAudience, ChangeKind, ChangedThing, ChannelPause,
    DEFAULT_TEAM, DeadLetterSelection, FinishedDelivery, NotificationAttempt, PullRequestRecord,
    RunOptions, RunState, Store, StoredPullRequest,
};

use super::outbox::{change, record};
use super::{WHOLE_LIFE, accept, claim, later, now, open, recording, tasks, write};
use testkit::database::Database;
use testkit::histories::KEY;
use testkit::on_every_database;

on_every_database! {
    batch_names_its_pull_requests_and_the_inbox,
    batch_of_many_pull_requests_names_their_repositories,
    every_other_write_names_its_kind,
    write_that_changes_nothing_is_not_noted,
    purge_keeps_what_is_recent_and_the_last_one,
}

const REPO: &str = "acme-corp/api-server";

fn thing(kind: ChangeKind, repo: Option<&str>) -> ChangedThing {
    ChangedThing {
        repo: repo.map(str::to_owned),
        ..any(kind)
    }
}

/// Returns a thing that may be any of the only team; the inbox is for operators.
fn any(kind: ChangeKind) -> ChangedThing {
    let any = ChangedThing::any(kind);
    match kind {
        ChangeKind::Inbox => any,
        _ => ChangedThing {
            audience: ChangeAudience::Teams(vec![DEFAULT_TEAM.0.0]),
            ..any
        },
    }
}

/// Returns the things that changed since the last call.
async fn changed(store: &Store, place: &mut i64) -> BTreeSet<ChangedThing> {
    let changes = store.changes_after(*place, 1000).await.unwrap();
    *place = changes.last().map_or(*place, |change| change.id);
    assert_eq!(*place, store.newest_change().await.unwrap());
    changes
        .into_iter()
        .flat_map(|change| change.things)
        .collect()
}

async fn batch_names_its_pull_requests_and_the_inbox(database: Database) {
    let store = open(&database).await;
    assert_eq!(store.newest_change().await.unwrap(), 0);
    let mut place = 0;
    write(&store, &WHOLE_LIFE[..1]).await;
    let pull_request = ChangedThing {
        number: Some(KEY.number),
        ..thing(ChangeKind::PullRequest, Some(REPO))
    };
    let inbox = any(ChangeKind::Inbox);
    let seen = thing(ChangeKind::Repository, Some(REPO));
    let expected = BTreeSet::from([pull_request, inbox.clone(), seen]);
    assert_eq!(changed(&store, &mut place).await, expected);

    let id = accept(&store, "a").await;
    claim(&store, &[id], now()).await;
    // An accepted delivery is no change yet: the endpoint writes nothing else.
    assert_eq!(changed(&store, &mut place).await, BTreeSet::new());
    let ignored = BatchWrite {
        finished: vec![FinishedDelivery::Ignored(id, "of no use".to_owned())],
        ..BatchWrite::default()
    };
    store.record(&ignored, later(1)).await.unwrap().unwrap();
    assert_eq!(changed(&store, &mut place).await, BTreeSet::from([inbox]));
    let at = store.changes_after(place - 1, 1).await.unwrap()[0].at;
    assert_eq!(at, later(1));
    // A refused write is not noted either.
    assert!(store.record(&ignored, later(2)).await.unwrap().is_err());
    assert_eq!(changed(&store, &mut place).await, BTreeSet::new());
}

async fn batch_of_many_pull_requests_names_their_repositories(database: Database) {
    let store = open(&database).await;
    let mut batch = BatchWrite::default();
    for number in 1..=65 {
        let key = PrKey {
            repo: KEY.repo,
            number: PrNumber(number),
        };
        let one = recording(StoredPullRequest::unknown(key), BTreeSet::new());
        batch
            .pull_requests
            .extend::<Vec<PullRequestRecord>>(one.pull_requests);
    }
    let mut place = 0;
    let last = batch.pull_requests.pop().unwrap();
    store.record(&batch, now()).await.unwrap().unwrap();
    let named = changed(&store, &mut place).await;
    assert_eq!(
        named.iter().filter(|thing| thing.number.is_some()).count(),
        64
    );
    for record in &mut batch.pull_requests {
        record.known = store
            .load(&[record.known.pull_request.key])
            .await
            .unwrap()
            .remove(0);
    }
    batch.pull_requests.push(last);
    store.record(&batch, now()).await.unwrap().unwrap();
    // It is not known, so that no team sees it.
    let of_none = ChangedThing {
        audience: ChangeAudience::Teams(Vec::new()),
        ..any(ChangeKind::PullRequest)
    };
    let expected = BTreeSet::from([of_none, any(ChangeKind::Inbox)]);
    assert_eq!(changed(&store, &mut place).await, expected);
}

async fn every_other_write_names_its_kind(database: Database) {
    use ChangeKind::{Channel, Inbox, Notification, Repository, SyncRun, Task};
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE[..1]).await;
    super::tasks::see_repository(&store).await;
    let mut place = store.newest_change().await.unwrap();
    let options = RunOptions {
        days_back: 90,
        max_prs: 1000,
        commits: false,
    };
    store
        .request_run(KEY.repo, &options, now())
        .await
        .unwrap()
        .unwrap();
    let run = thing(SyncRun, Some(REPO));
    assert_eq!(
        changed(&store, &mut place).await,
        BTreeSet::from([run.clone()])
    );
    let mut claimed = store
        .claim_run(None, now(), later(60))
        .await
        .unwrap()
        .unwrap();
    let repository = thing(Repository, Some(REPO));
    let both = BTreeSet::from([run, repository.clone()]);
    assert_eq!(changed(&store, &mut place).await, both);
    (claimed.state, claimed.prs_done) = (RunState::Done, 7);
    assert!(store.save_run(&claimed, later(1), later(60)).await.unwrap());
    assert_eq!(changed(&store, &mut place).await, both);
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .untrack(KEY.repo, later(2))
            .await
            .unwrap()
    );
    assert_eq!(
        changed(&store, &mut place).await,
        BTreeSet::from([repository])
    );

    let id = accept(&store, "a").await;
    claim(&store, &[id], now()).await;
    let inbox = BTreeSet::from([any(Inbox)]);
    store
        .mark_dead(&[id], "cannot be decoded", now())
        .await
        .unwrap();
    assert_eq!(changed(&store, &mut place).await, inbox);
    let dead = DeadLetterSelection::Ids(vec![id]);
    assert_eq!(store.requeue(&dead, now()).await.unwrap(), 1);
    assert_eq!(changed(&store, &mut place).await, inbox);

    let task = tasks::make(&store, "PROJ-1").await;
    let of_none = BTreeSet::from([any(Task)]);
    assert_eq!(changed(&store, &mut place).await, of_none);
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .link_task(task.id, KEY, now())
            .await
            .unwrap()
    );
    let linked = BTreeSet::from([thing(Task, Some(REPO))]);
    assert_eq!(changed(&store, &mut place).await, linked);
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .unlink_task(task.id, KEY, now())
            .await
            .unwrap()
    );
    assert_eq!(changed(&store, &mut place).await, linked);

    let from = store
        .of_team(DEFAULT_TEAM.0)
        .open_channel("ops")
        .await
        .unwrap()
        .place;
    record(&store, vec![change(9, None, PullRequestStatus::Open, 0)]).await;
    let event = store.newest_event().await.unwrap();
    changed(&store, &mut place).await;
    let wanted = [(event, "subject".to_owned())];
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .advance_channel("ops", from, event, &wanted, now())
            .await
            .unwrap()
    );
    let notification = any(Notification);
    assert_eq!(
        changed(&store, &mut place).await,
        BTreeSet::from([notification.clone()])
    );
    let attempt = NotificationAttempt {
        channel: "ops",
        event,
        answer: "refused",
        at: later(1),
    };
    let rest = ChannelPause {
        until: Some(later(60)),
        failures: 1,
    };
    let next = AttemptResult::RetryAt(later(60));
    assert!(
        store
            .of_team(DEFAULT_TEAM.0)
            .record_attempt(&attempt, next, Some(rest))
            .await
            .unwrap()
    );
    let both = BTreeSet::from([notification, any(Channel)]);
    assert_eq!(changed(&store, &mut place).await, both);
}

async fn write_that_changes_nothing_is_not_noted(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE[..1]).await;
    let task = tasks::make(&store, "PROJ-1").await;
    let mut place = store.newest_change().await.unwrap();
    // Marks a task as due, and renews a lease.
    store.request_poll(now()).await.unwrap();
    assert!(
        !store
            .of_team(DEFAULT_TEAM.0)
            .unlink_task(task.id, KEY, now())
            .await
            .unwrap()
    );
    let options = RunOptions {
        days_back: 90,
        max_prs: 1000,
        commits: false,
    };
    store
        .request_run(KEY.repo, &options, now())
        .await
        .unwrap()
        .unwrap();
    let run = store
        .claim_run(None, now(), later(60))
        .await
        .unwrap()
        .unwrap();
    changed(&store, &mut place).await;
    assert!(store.renew_run(&run, later(120)).await.unwrap());
    assert_eq!(changed(&store, &mut place).await, BTreeSet::new());
}

async fn purge_keeps_what_is_recent_and_the_last_one(database: Database) {
    let store = open(&database).await;
    let ids = async || -> Vec<i64> {
        let changes = store.changes_after(0, 1000).await.unwrap();
        changes.into_iter().map(|change| change.id).collect()
    };
    assert_eq!(store.purge_changes(later(99), 100).await.unwrap(), 0);
    for second in 0..6 {
        let id = accept(&store, &second.to_string()).await;
        claim(&store, &[id], now()).await;
        let batch = BatchWrite {
            finished: vec![FinishedDelivery::Applied(id)],
            ..BatchWrite::default()
        };
        store.record(&batch, later(second)).await.unwrap().unwrap();
    }
    let all = ids().await;
    assert_eq!(store.purge_changes(later(3), 2).await.unwrap(), 2);
    assert_eq!(store.purge_changes(later(3), 100).await.unwrap(), 1);
    assert_eq!(ids().await, all[3..]);
    assert_eq!(store.purge_changes(later(99), 100).await.unwrap(), 2);
    assert_eq!(ids().await, all[5..]);
}
