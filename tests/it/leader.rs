//! Leader roles: one process at a time does the work of each, and another takes over.

use std::sync::Arc;
use std::time::Duration;

use tallyhook::leader::{LeaderWork, Leadership, while_leading};
use tallyhook_store::{LeaderRole, OpenMode, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use testkit::database::{Backend, Database, database};

const ROLES: [LeaderRole; 7] = [
    LeaderRole::Sweeper,
    LeaderRole::Poller,
    LeaderRole::Follower,
    LeaderRole::Notifier,
    LeaderRole::Opener,
    LeaderRole::Cleaner,
    LeaderRole::Renumberer,
];

/// A new role must be added to [`ROLES`] too.
const fn place(role: LeaderRole) -> usize {
    match role {
        LeaderRole::Sweeper => 0,
        LeaderRole::Poller => 1,
        LeaderRole::Follower => 2,
        LeaderRole::Notifier => 3,
        LeaderRole::Opener => 4,
        LeaderRole::Cleaner => 5,
        LeaderRole::Renumberer => 6,
    }
}

/// The leaders of each role at this time, by the names of their processes.
type Leaders = watch::Sender<[Vec<&'static str>; ROLES.len()]>;

/// The work of a process, which only records that it leads.
struct RecordedWork {
    process: &'static str,
    role: LeaderRole,
    leaders: Arc<Leaders>,
    /// While false the process cannot lead, and gives the role up.
    can_lead: watch::Receiver<bool>,
}

impl LeaderWork for RecordedWork {
    fn can_lead(&self) -> bool {
        *self.can_lead.borrow()
    }

    async fn lead(&mut self, leadership: &Leadership<'_>) {
        let place = place(self.role);
        self.leaders
            .send_modify(|leaders| leaders[place].push(self.process));
        assert!(leadership.lease().is_held());
        tokio::select! {
            () = leadership.wait_ended() => {}
            cannot = self.can_lead.wait_for(|can_lead| !can_lead) => drop(cannot),
        }
        self.leaders
            .send_modify(|leaders| leaders[place].retain(|leader| *leader != self.process));
    }
}

/// A process that tries to lead in every role.
struct Process {
    stopping: watch::Sender<bool>,
    can_lead: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Process {
    fn start(name: &'static str, store: &Store, leaders: &Arc<Leaders>) -> Self {
        let (stopping, _) = watch::channel(false);
        let (can_lead, _) = watch::channel(true);
        let mut tasks = JoinSet::new();
        for role in ROLES {
            let mut work = RecordedWork {
                process: name,
                role,
                leaders: Arc::clone(leaders),
                can_lead: can_lead.subscribe(),
            };
            let (store, stopping) = (store.clone(), stopping.subscribe());
            tasks.spawn(async move { while_leading(&store, role, stopping, &mut work).await });
        }
        Self {
            stopping,
            can_lead,
            tasks,
        }
    }

    async fn stop(self) {
        self.stopping.send_replace(true);
        self.tasks.join_all().await;
    }
}

async fn open(database: &Database) -> Store {
    tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .unwrap()
}

/// Waits until the process `name`, and no other, leads in every role.
async fn wait_for_leader(leaders: &Arc<Leaders>, name: &str) {
    let mut changes = leaders.subscribe();
    let is_leader = |leaders: &[Vec<&'static str>; ROLES.len()]| {
        leaders.iter().all(|leaders| leaders.as_slice() == [name])
    };
    let waited = timeout(Duration::from_mins(1), changes.wait_for(is_leader)).await;
    drop(
        waited
            .unwrap_or_else(|_| panic!("{name} does not lead: {:?}", leaders.borrow()))
            .unwrap(),
    );
}

#[tokio::test]
async fn every_role_is_led_until_the_process_stops() {
    let database = database(Backend::Sqlite);
    let store = open(&database).await;
    let leaders = Arc::new(watch::channel(Default::default()).0);
    let process = Process::start("one", &store, &leaders);
    wait_for_leader(&leaders, "one").await;
    // Work that ends by itself is done again once the process can lead again.
    process.can_lead.send_replace(false);
    let mut changes = leaders.subscribe();
    let is_unled = |leaders: &[Vec<&'static str>; ROLES.len()]| leaders.iter().all(Vec::is_empty);
    drop(changes.wait_for(is_unled).await.unwrap());
    process.can_lead.send_replace(true);
    wait_for_leader(&leaders, "one").await;
    process.stop().await;
    assert!(leaders.borrow().iter().all(Vec::is_empty));
    // The next start of the program leads at once.
    let process = Process::start("two", &store, &leaders);
    wait_for_leader(&leaders, "two").await;
    process.stop().await;
    store.close().await;
}

#[cfg(feature = "services")]
#[tokio::test]
async fn another_process_takes_over_every_role() {
    let database = database(Backend::Postgres);
    let (store_one, store_two) = (open(&database).await, open(&database).await);
    let leaders = Arc::new(watch::channel(Default::default()).0);
    // At no time do two processes lead in one role.
    let mut changes = leaders.subscribe();
    let watching = tokio::spawn(async move {
        let both = |leaders: &[Vec<&str>; ROLES.len()]| leaders.iter().any(|role| role.len() > 1);
        changes.wait_for(both).await.is_ok()
    });

    let one = Process::start("one", &store_one, &leaders);
    wait_for_leader(&leaders, "one").await;
    let two = Process::start("two", &store_two, &leaders);
    // Work that ends by itself releases its role.
    one.can_lead.send_replace(false);
    wait_for_leader(&leaders, "two").await;
    one.can_lead.send_replace(true);
    two.stop().await;
    wait_for_leader(&leaders, "one").await;
    // A process whose connections end loses its roles at most until it renews them.
    assert!(database.end_connections().await >= 1);
    wait_for_leader(&leaders, "one").await;
    one.stop().await;
    assert!(leaders.borrow().iter().all(Vec::is_empty));
    drop(leaders);
    assert!(!watching.await.unwrap(), "two processes led in one role");
    store_one.close().await;
    store_two.close().await;
}
