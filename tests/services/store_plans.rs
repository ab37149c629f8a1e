//! The rows that each use case of the store reads in a large database: a million pull requests,
//! half a million deliveries. Rows are counted, not seconds. Filling the database takes a minute,
//! so this runs only with the feature `services`.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::domain::metrics::{AuthorFilter, CalendarBucket, Summary};
use tallyhook_core::domain::task::{TaskKey, TaskStatus};
use tallyhook_core::domain::waiting::WaitingReason;
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    AggregateFilter, AttemptResult, BatchWrite, DEFAULT_TEAM, DeliveryFilter, DeliveryState,
    EventId, ListOrder, ListPlace, NotificationAttempt, NotificationFilter, NotificationState,
    OpenMode, PendingWork, PullRequestFilter, SortKey, StateFilter, Store, TaskFilter, TaskRef,
};

use testkit::database::{Backend, Database, database};

const LARGE: &str = "relname IN ('pull_requests', 'reviews', 'deliveries', 'delivery_bodies', 'tasks', 'mentions', \
    'task_links', 'task_history', 'outbox', 'notifications')";
/// The maximum page of the API, and one more row that shows if there is another page.
const PAGE: u32 = 101;

/// Returns the statistics of the server about the large tables: sequential scans, rows and index
/// entries read, and blocks read, which also show index entries that a scan walked past.
async fn counted(database: &Database) -> [i64; 3] {
    quiet(database).await;
    let tables = "coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables";
    let rows = format!(
        "((SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE {LARGE}) \
         + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE {LARGE}))::bigint"
    );
    let blocks = "sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint FROM pg_statio_user_tables";
    [
        database
            .number(&format!("SELECT {tables} WHERE {LARGE}"))
            .await,
        database.number(&format!("SELECT {rows}")).await,
        database
            .number(&format!("SELECT {blocks} WHERE {LARGE}"))
            .await,
    ]
}

/// Asserts that `call`, which reads, reads at most `most` rows or index entries of the large tables
/// and blocks in proportion, and none of these tables sequentially.
async fn touches<T>(
    database: &Database,
    what: &str,
    most: i64,
    call: impl AsyncFnOnce(Store) -> T,
) -> T {
    looks_at(database, what, most, 3 * most + 100, call).await
}

/// Asserts the same of a call that writes: a changed row has a new entry in every index.
async fn changes<T>(
    database: &Database,
    what: &str,
    most: i64,
    call: impl AsyncFnOnce(Store) -> T,
) -> T {
    looks_at(database, what, most, 15 * most + 100, call).await
}

async fn looks_at<T>(
    database: &Database,
    what: &str,
    most_rows: i64,
    most_blocks: i64,
    call: impl AsyncFnOnce(Store) -> T,
) -> T {
    let before = counted(database).await;
    let store = tallyhook_store::open(&database.url, OpenMode::Shared)
        .await
        .unwrap();
    let answer = call(store.clone()).await;
    // The statistics of a connection are flushed at its end at the latest.
    store.close().await;
    let after = counted(database).await;
    let [scans, rows, blocks] = [0, 1, 2].map(|place| after[place] - before[place]);
    assert_eq!(scans, 0, "{what} reads a whole table");
    assert!(
        rows <= most_rows,
        "{what} looks at {rows} rows, not at most {most_rows}"
    );
    assert!(
        blocks <= most_blocks,
        "{what} looks at {blocks} blocks, not at most {most_blocks}"
    );
    answer
}

/// Waits until there is no other connection.
async fn quiet(database: &Database) {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while database.number(others).await > 0 {
        assert!(
            std::time::Instant::now() < until,
            "another connection stays open"
        );
        tokio::task::yield_now().await;
    }
}

/// Creates a database with a million pull requests.
async fn million() -> Database {
    let database = database(Backend::Postgres);
    tallyhook_store::open(&database.url, OpenMode::Exclusive)
        .await
        .unwrap()
        .close()
        .await;
    testkit::Million::DEFAULT.fill(&database.url).await.unwrap();
    database
}

#[tokio::test]
async fn every_call_reads_rows_in_proportion_to_its_result() {
    let database = million().await;
    lists_of_pull_requests(&database).await;
    lists_behind_numbers(&database).await;
    single_rows(&database).await;
    aggregates(&database).await;
    lists_of_deliveries(&database).await;
    tasks(&database).await;
    channels(&database).await;
    work(&database).await;
}

async fn lists_of_pull_requests(database: &Database) {
    let epoch = async |part: &str| {
        let sql = format!(
            "SELECT extract(epoch FROM min(updated_at) + (max(updated_at) - min(updated_at)) * {part})::bigint FROM pull_requests"
        );
        Timestamp::clamped(database.number(&sql).await)
    };
    let places = [None, Some(epoch("0.5").await)];
    let states = [vec![], vec![StateFilter::Open], vec![StateFilter::Closed]];
    let repos = [None, Some(RepoId(2)), Some(RepoId(3))];
    let authors = [None, Some("account-1[BOT]"), Some("nobody")];
    for (place, states, repo, author) in combinations(&places, &states, &repos, &authors) {
        let filter = PullRequestFilter {
            states: states.clone(),
            repo,
            author: author.map(str::to_owned),
            after: place.map(|at: Timestamp| ListPlace {
                value: at.epoch(),
                key: PrKey {
                    repo: repo.unwrap_or(RepoId(9)),
                    number: PrNumber(0),
                },
            }),
            ..PullRequestFilter::default()
        };
        // An index entry for each row of each state, and the rows.
        let most = 4 * i64::from(PAGE) + 10;
        touches(database, &format!("{filter:?}"), most, async |store| {
            store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&filter, PAGE)
                .await
                .unwrap();
        })
        .await;
    }
    let filter = PullRequestFilter {
        from: places[1],
        to: places[1],
        ..PullRequestFilter::default()
    };
    touches(database, "an empty range", 10, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .pull_requests(&filter, PAGE)
            .await
            .unwrap()
    })
    .await;
}

/// The lists and counts behind the numbers of totals and aggregates.
async fn lists_behind_numbers(database: &Database) {
    let number = async |condition: &str| {
        let sql = format!("SELECT count(*) FROM pull_requests WHERE {condition}");
        database.number(&sql).await
    };
    let open = number("state = 'open'").await;
    for reason in [
        WaitingReason::FirstReview,
        WaitingReason::Merge,
        WaitingReason::BasePr,
    ] {
        let filter = PullRequestFilter {
            reason: Some(reason),
            order: ListOrder {
                key: SortKey::Waiting,
                ascending: false,
            },
            ..PullRequestFilter::default()
        };
        // Each open one, and for an approved one the look for its base.
        touches(database, &format!("{reason:?}"), 3 * open, async |store| {
            store
                .of_team(DEFAULT_TEAM.0)
                .count_pull_requests(&filter)
                .await
                .unwrap();
            store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&filter, PAGE)
                .await
                .unwrap()
        })
        .await;
    }
    let at = |text| Timestamp::parse(text);
    let closed = PullRequestFilter {
        closed_from: at("2025-01-01T00:00:00Z"),
        closed_to: at("2025-01-08T00:00:00Z"),
        order: ListOrder {
            key: SortKey::Closed,
            ascending: false,
        },
        ..PullRequestFilter::default()
    };
    let in_range = "closed_at >= '2025-01-01Z' AND closed_at < '2025-01-08Z'";
    let most = number(&format!("state = 'closed' AND {in_range}")).await;
    touches(database, "closed ones", 3 * most, async |store| {
        let (n, _) = store
            .of_team(DEFAULT_TEAM.0)
            .count_pull_requests(&closed)
            .await
            .unwrap();
        assert_eq!(i64::try_from(n).unwrap(), most);
        store
            .of_team(DEFAULT_TEAM.0)
            .pull_requests(&closed, PAGE)
            .await
            .unwrap()
    })
    .await;
}

fn combinations<'a, A: Copy, B, C: Copy, D: Copy>(
    a: &'a [A],
    b: &'a [B],
    c: &'a [C],
    d: &'a [D],
) -> impl Iterator<Item = (A, &'a B, C, D)> {
    a.iter().flat_map(move |a| {
        b.iter().flat_map(move |b| {
            c.iter()
                .flat_map(move |c| d.iter().map(move |d| (*a, b, *c, *d)))
        })
    })
}

async fn single_rows(database: &Database) {
    let number = database
        .number("SELECT min(number) FROM pull_requests WHERE repo_id = 7 AND number % 2 = 0")
        .await;
    let key = PrKey {
        repo: RepoId(7),
        number: PrNumber(number),
    };
    let row = touches(database, "a pull request", 4, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .pull_request(key)
            .await
            .unwrap()
    })
    .await;
    assert_eq!(row.unwrap().key, key);
    let known = touches(database, "what is known of one", 4, async |store| {
        store.load(&[key]).await.unwrap()
    })
    .await;
    assert_eq!(known[0].pull_request.reviews.len(), 1);
    let keys: Vec<_> = (0..256)
        .map(|place| PrKey {
            number: PrNumber(place * 3000),
            ..key
        })
        .collect();
    touches(database, "what is known of many", 600, async |store| {
        store.load(&keys).await.unwrap()
    })
    .await;
    touches(database, "keys", 600, async |store| {
        store.keys_after(Some(key), 500).await.unwrap()
    })
    .await;
    touches(database, "stubs", 10, async |store| {
        store
            .incomplete_pull_requests(RepoId(3), Utc::now(), PAGE)
            .await
            .unwrap()
    })
    .await;
    touches(database, "a repository", 0, async |store| {
        store.repository_id("Acme-Corp/service-7").await.unwrap()
    })
    .await;
}

async fn aggregates(database: &Database) {
    let month = AggregateFilter {
        from: Timestamp::parse("2025-01-01T00:00:00Z"),
        to: Timestamp::parse("2025-01-31T00:00:00Z"),
        ..AggregateFilter::default()
    };
    let in_month = "merged_at >= '2025-01-01Z' AND merged_at < '2025-01-31Z'";
    for (filter, repo, range) in [
        (month.clone(), "true", in_month),
        (
            AggregateFilter {
                bucket: Some(CalendarBucket::Week),
                ..month.clone()
            },
            "true",
            in_month,
        ),
        (
            AggregateFilter {
                repo: Some(RepoId(3)),
                ..month.clone()
            },
            "repo_id = 3",
            in_month,
        ),
        (
            AggregateFilter {
                repo: Some(RepoId(190)),
                ..AggregateFilter::default()
            },
            "repo_id = 190",
            "true",
        ),
        (AggregateFilter::default(), "true", "true"),
    ] {
        let merged = format!("state = 'merged' AND {repo} AND {range}");
        // Closed pull requests are counted within the range over all repositories.
        let closed = format!(
            "state = 'closed' AND {}",
            range.replace("merged_at", "closed_at")
        );
        // The index of all merges has the repository, too: of a month the server may read that.
        let read = match range {
            "true" => merged.clone(),
            _ => format!("state = 'merged' AND {range}"),
        };
        let most = database
            .number(&format!(
                "SELECT count(*) FROM pull_requests WHERE {read} OR {closed}"
            ))
            .await;
        let what = format!("{filter:?}");
        let found = touches(database, &what, most, async |store| {
            store
                .of_team(DEFAULT_TEAM.0)
                .aggregates(&filter)
                .await
                .unwrap()
        })
        .await;
        compare_percentiles(database, &merged, &found.all).await;
    }
    let bots = AggregateFilter {
        authors: AuthorFilter::Bot,
        ..month
    };
    touches(database, "bots", 40_000, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .aggregates(&bots)
            .await
            .unwrap()
    })
    .await;
}

/// Asserts that percentiles equal those of the server, within the six decimals of an hour.
async fn compare_percentiles(database: &Database, merged: &str, found: &Summary) {
    for (column, summary) in [
        ("cycle_time_s", &found.cycle_time),
        ("pickup_s", &found.stages.pickup),
        ("review_s", &found.stages.review),
    ] {
        for (part, hours) in [
            ("0.5", summary.p50_hours),
            ("0.75", summary.p75_hours),
            ("0.9", summary.p90_hours),
        ] {
            let sql = format!(
                "SELECT round(percentile_cont({part}) WITHIN GROUP (ORDER BY {column}) * 1000)::bigint \
                 FROM pull_requests WHERE NOT author_is_bot AND NOT flags @> '{{stub}}' AND {merged}"
            );
            #[allow(clippy::cast_possible_truncation, reason = "milliseconds of some days")]
            let found = (hours.unwrap() * 3_600_000.0).round() as i64;
            let expected = database.number(&sql).await;
            assert!(
                (found - expected).abs() <= 2,
                "{column} {part} {merged}: {found} ms, {expected} at the server"
            );
        }
    }
}

async fn lists_of_deliveries(database: &Database) {
    let states = [
        None,
        Some(DeliveryState::Applied),
        Some(DeliveryState::Dead),
    ];
    let events = [None, Some("push"), Some("merge_group")];
    let repos = [None, Some("Acme-Corp/service-7"), Some("acme-corp/none")];
    let places = [None, Some(DeliveryId(250_000))];
    for (before, state, event, repo) in combinations(&places, &states, &events, &repos) {
        let filter = DeliveryFilter {
            state: *state,
            event: event.map(str::to_owned),
            repo: repo.map(str::to_owned),
            before,
            ..DeliveryFilter::default()
        };
        // The combination of an event and a repository may be rare while each alone is common.
        let both = if event.is_some() && repo.is_some() {
            2500
        } else {
            0
        };
        let most = 4 * i64::from(PAGE) + 10 + both;
        touches(database, &format!("{filter:?}"), most, async |store| {
            store.deliveries(&filter, PAGE).await.unwrap()
        })
        .await;
    }
    touches(database, "a delivery", 2, async |store| {
        store.delivery(DeliveryId(77)).await.unwrap().unwrap()
    })
    .await;
    touches(database, "a body", 4, async |store| {
        store.body(DeliveryId(499_000)).await.unwrap().unwrap()
    })
    .await;
    let guid = "c4ca4238-a0b9-2382-0dcc-509a6f75849b";
    let of_guid = touches(database, "a guid", 2, async |store| {
        store.deliveries_by_guid(guid).await.unwrap()
    })
    .await;
    assert_eq!(of_guid.len(), 1);
    touches(database, "groups of dead letters", 200, async |store| {
        store.dead_groups().await.unwrap()
    })
    .await;
    touches(database, "uncopied dead letters", 200, async |store| {
        store.dead_without_copy(50).await.unwrap()
    })
    .await;
}

async fn tasks(database: &Database) {
    let key = TaskRef::Key(TaskKey::parse("PROJ-7770").unwrap());
    let task = touches(database, "a task", 20, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .task(&key)
            .await
            .unwrap()
            .unwrap()
    })
    .await;
    // Five pull requests name it, one of which is linked, too.
    assert_eq!(task.prs.len(), 5);
    touches(database, "history of a task", 10, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .task_history(task.id, PAGE)
            .await
            .unwrap()
    })
    .await;
    for (status, before) in [
        (None, None),
        (Some(TaskStatus::Todo), None),
        (None, Some((task.created_at, task.id))),
    ] {
        // Every tenth task is to do, and each is read with its pull requests.
        let most = i64::from(PAGE) * if status.is_some() { 30 } else { 20 };
        let found = touches(database, "tasks", most, async |store| {
            let filter = TaskFilter {
                status,
                ..TaskFilter::default()
            };
            store
                .of_team(DEFAULT_TEAM.0)
                .tasks(&filter, before, PAGE)
                .await
                .unwrap()
        });
        assert_eq!(found.await.len(), PAGE as usize);
    }
    let now = Utc::now();
    let due = touches(database, "due tasks", 64 * 20, async |store| {
        store.due_tasks(PendingWork::FOLLOW, now, 64).await.unwrap()
    });
    assert_eq!(due.await.len(), 64);
    touches(database, "pushes", 5, async |store| {
        store.due_tasks(PendingWork::PUSH, now, 64).await.unwrap()
    })
    .await;
    let pr = task.prs[0];
    changes(database, "linking", 60, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .unlink_task(task.id, pr, now)
            .await
            .unwrap()
    })
    .await;
    // A batch of pull requests with new statuses, which mark their tasks.
    let moved: BTreeSet<_> = task
        .prs
        .iter()
        .copied()
        .chain((0..250).map(|n| PrKey {
            number: PrNumber(n * 20),
            ..pr
        }))
        .collect();
    let change = BatchWrite {
        moved,
        ..BatchWrite::default()
    };
    let recorded = changes(database, "marking tasks", 1500, async |store| {
        store.record(&change, now).await.unwrap()
    });
    assert_eq!(recorded.await, Ok(()));
}

async fn channels(database: &Database) {
    let (now, middle) = (Utc::now(), EventId(100_000));
    let page = async |store: Store| store.events_after(middle, PAGE).await.unwrap();
    assert_eq!(
        touches(database, "events", 3 * i64::from(PAGE), page)
            .await
            .len(),
        PAGE as usize
    );
    touches(database, "the newest event", 2, async |store| {
        store.newest_event().await.unwrap()
    })
    .await;
    let due = touches(database, "due notifications", 32 * 4 + 10, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .due_notifications("webhook", now, 32)
            .await
            .unwrap()
    });
    let due = due.await;
    assert_eq!(due.len(), 32);
    // All pending notifications are read.
    touches(database, "the next notification", 1100, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .next_notification_at("webhook")
            .await
            .unwrap()
    })
    .await;
    touches(database, "pending notifications", 1300, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .backlogs(&["slack", "webhook"])
            .await
            .unwrap()
    })
    .await;
    let event = due[0].event.id;
    changes(database, "superseding", 20, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .supersede_if_outdated("webhook", event, now)
            .await
            .unwrap()
    })
    .await;
    let attempt = NotificationAttempt {
        channel: "webhook",
        event,
        answer: "200",
        at: now,
    };
    changes(database, "an attempt", 20, async |store| {
        store
            .of_team(DEFAULT_TEAM.0)
            .record_attempt(&attempt, AttemptResult::Sent, None)
            .await
            .unwrap()
    })
    .await;
    for (state, after) in [
        (None, None),
        (Some(NotificationState::Dead), None),
        (None, Some((middle, String::new()))),
    ] {
        let filter = NotificationFilter {
            state,
            after,
            ..NotificationFilter::default()
        };
        let what = format!("{filter:?}");
        let listed = touches(database, &what, 4 * i64::from(PAGE), async |store| {
            store
                .of_team(DEFAULT_TEAM.0)
                .notifications(&filter, PAGE)
                .await
                .unwrap()
        });
        assert!(listed.await.len() >= 40);
    }
    let old = DateTime::from_timestamp(1_771_545_600, 0).unwrap() + TimeDelta::days(1);
    let purged = changes(database, "clearing events away", 6000, async |store| {
        store.purge_events(old, 500).await.unwrap()
    });
    assert_eq!(purged.await, 500);
}

/// The regular calls of workers and the sweeper.
async fn work(database: &Database) {
    let now: DateTime<Utc> =
        DateTime::from_timestamp(1_772_500_000, 0).unwrap() + TimeDelta::days(3);
    // All deliveries are counted, in an index.
    touches(database, "counts", 510_000, async |store| {
        store.counts().await.unwrap()
    })
    .await;
    let ids: Vec<_> = (499_100..499_356).map(DeliveryId).collect();
    touches(database, "waiting", 600, async |store| {
        store.pending(&ids).await.unwrap()
    })
    .await;
    let until = now + TimeDelta::seconds(60);
    let claim = changes(database, "claiming", 1300, async |store| {
        store.claim(&ids, now, until, 5).await.unwrap()
    })
    .await;
    assert_eq!(claim.claimed.len(), 256);
    touches(database, "unfinished", 1300, async |store| {
        store.unfinished(&ids).await.unwrap()
    })
    .await;
    // From here on scans also read index entries of outdated row versions, until the server has
    // vacuumed them.
    changes(database, "giving back", 2600, async |store| {
        store.retry(&ids, "an error", now, now).await.unwrap()
    })
    .await;
    changes(database, "handing back", 2600, async |store| {
        store.mark_unpublished(&ids, now).await.unwrap()
    })
    .await;
    let due = changes(database, "taking what is due", 5200, async |store| {
        store
            .claim_due_for_publish(Lane::Live, 512, now, until)
            .await
            .unwrap()
    });
    assert_eq!(due.await.len(), 512);
    changes(database, "orphans", 2600, async |store| {
        store.release_orphaned_leases(now).await.unwrap()
    })
    .await;
    let purged = changes(database, "cleaning", 6000, async |store| {
        store
            .purge(now, now - TimeDelta::days(365), 500)
            .await
            .unwrap()
    });
    assert_eq!(purged.await.bodies, 500);
}
