//! The queries of the API: lists, pages and aggregates.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tallyhook_core::domain::business_time::{BusinessNumbers, CalendarStamp, DurationClock};
use tallyhook_core::domain::metrics::{
    Aggregation, AuthorFilter, CalendarBucket, DurationName, Measurements, MergedPullRequest,
    Summary,
};
use tallyhook_core::domain::numbers::Numbers;
use tallyhook_core::domain::origin::PullRequestOrigin;
use tallyhook_core::domain::timings::{
    Flag, PullRequestDurations, PullRequestState, Stages, Timings,
};
use tallyhook_core::domain::waiting::Turns;
use tallyhook_core::github::types::{AccountKind, PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_store::{
    AggregateFilter, BatchWrite, DEFAULT_TEAM, DetailFilter, ListPlace, PullRequestFilter,
    PullRequestRecord, PullRequestRow, StateFilter, Store, StoredPullRequest,
};

use jiff::tz::TimeZone;
use tallyhook::config::NamedZone;

use super::{WHOLE_LIFE, histories, now, open, repository, write};
use testkit::database::Database;
use testkit::on_every_database;

on_every_database! {
    aggregates_equal_those_of_the_domain_rules,
    pages_are_complete_and_in_order_under_every_filter,
    pull_requests_are_filtered_by_state_author_and_range,
    all_keys_are_listed_in_pages,
    lists_have_as_many_rows_as_aggregates_count,
    titles_are_found_regardless_of_ascii_case,
}

async fn pull_requests_are_filtered_by_state_author_and_range(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    let count = async |filter: PullRequestFilter| {
        store
            .of_team(DEFAULT_TEAM.0)
            .pull_requests(&filter, 10)
            .await
            .unwrap()
            .len()
    };
    let state = |state| PullRequestFilter {
        states: vec![state],
        ..PullRequestFilter::default()
    };
    assert_eq!(count(PullRequestFilter::default()).await, 1);
    assert_eq!(count(state(StateFilter::Merged)).await, 1);
    assert_eq!(count(state(StateFilter::Closed)).await, 1);
    assert_eq!(count(state(StateFilter::ClosedUnmerged)).await, 0);
    assert_eq!(count(state(StateFilter::Open)).await, 0);
    let by = |author: &str| PullRequestFilter {
        author: Some(author.to_owned()),
        ..PullRequestFilter::default()
    };
    assert_eq!(
        (count(by("Account-0")).await, count(by("account-1")).await),
        (1, 0)
    );
    let row = store
        .of_team(DEFAULT_TEAM.0)
        .pull_request(histories::KEY)
        .await
        .unwrap()
        .unwrap();
    let updated = row.updated_at;
    let range = |from, to| PullRequestFilter {
        from,
        to,
        ..PullRequestFilter::default()
    };
    assert_eq!(count(range(Some(updated), None)).await, 1);
    assert_eq!(count(range(None, Some(updated))).await, 0);
    assert_eq!(
        count(PullRequestFilter {
            after: Some(ListPlace {
                value: updated.epoch(),
                key: row.key,
            }),
            ..PullRequestFilter::default()
        })
        .await,
        0
    );
    assert_eq!(row.durations.cycle_time, Some(90));
    assert_eq!(row.flags, Vec::<String>::new());

    let filter = |repo| AggregateFilter {
        repo,
        ..AggregateFilter::default()
    };
    let aggregates = store
        .of_team(DEFAULT_TEAM.0)
        .aggregates(&filter(None))
        .await
        .unwrap();
    assert_eq!(
        (aggregates.all.cycle_time.n, aggregates.all.closed_unmerged),
        (1, Some(0))
    );
    assert_eq!(aggregates.all.stages.coding.values, Some(vec![0.138889]));
    assert_eq!(
        store
            .of_team(DEFAULT_TEAM.0)
            .aggregates(&filter(Some(RepoId(8))))
            .await
            .unwrap()
            .all
            .cycle_time
            .n,
        0
    );
}

async fn all_keys_are_listed_in_pages(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    assert_eq!(store.keys_after(None, 10).await.unwrap(), [histories::KEY]);
    let before = PrKey {
        repo: RepoId(7),
        number: PrNumber(2),
    };
    assert_eq!(
        store.keys_after(Some(before), 10).await.unwrap(),
        [histories::KEY]
    );
    assert_eq!(
        store.keys_after(Some(histories::KEY), 10).await.unwrap(),
        []
    );
}

/// The fields of a generated pull request that a test compares.
struct GeneratedPullRequest {
    key: PrKey,
    author: String,
    updated_at: i64,
    merged_at: Option<i64>,
    closed_at: Option<i64>,
    timings: Timings,
    business: Option<BusinessNumbers>,
}

/// Generates a pull request from few repositories, people and timestamps, so that many are equal.
fn generate(random: &mut SmallRng, number: i64) -> GeneratedPullRequest {
    let start = 1_772_445_600;
    let at = |random: &mut SmallRng| start + random.random_range(-40_i64..40) * 21_600;
    let seconds = |random: &mut SmallRng| {
        [
            None,
            Some(0),
            Some(60),
            Some(random.random_range(0..400_000)),
        ]
        .choose(random)
        .copied()
        .flatten()
    };
    let state = *[
        PullRequestState::Open,
        PullRequestState::Closed,
        PullRequestState::Merged,
        PullRequestState::Merged,
        PullRequestState::Merged,
    ]
    .choose(random)
    .unwrap();
    let flags = [
        Flag::Stub,
        Flag::MergedAsDraft,
        Flag::Reopened,
        Flag::MergedWithoutReview,
        Flag::ClockSkew,
    ];
    let ended = at(random);
    let stages = |random: &mut SmallRng| Stages {
        coding: seconds(random),
        pickup: seconds(random),
        review: seconds(random),
        merge_wait: seconds(random),
        redraft: seconds(random),
        closed: seconds(random),
    };
    let business = random.random_bool(0.8).then(|| BusinessNumbers {
        durations: PullRequestDurations {
            cycle_time: seconds(random),
            review_time: seconds(random),
            stages: stages(random),
        },
        calendar: CalendarStamp {
            name: "berlin".to_owned(),
            zone: "Europe/Berlin".to_owned(),
            hash: "0123456789abcdef".to_owned(),
        },
    });
    let timings = Timings {
        segments: Vec::new(),
        state,
        author_is_bot: random.random_bool(0.2),
        first_commit_at: None,
        ready_at: None,
        first_response_at: None,
        first_review_at: None,
        final_approval_at: None,
        cycle_time: seconds(random),
        review_time: seconds(random),
        stages: stages(random),
        flags: flags
            .into_iter()
            .filter(|_| random.random_bool(0.15))
            .collect(),
        steps: Vec::new(),
    };
    GeneratedPullRequest {
        key: PrKey {
            repo: RepoId(random.random_range(1..4)),
            number: PrNumber(number),
        },
        author: format!("Account-{}", random.random_range(0..3)),
        updated_at: at(random),
        merged_at: (state == PullRequestState::Merged).then_some(ended),
        closed_at: (state != PullRequestState::Open).then_some(ended),
        timings,
        business,
    }
}

impl GeneratedPullRequest {
    fn record(&self) -> PullRequestRecord {
        let opened = &histories::events(false, None, &[])[0];
        let mut pull_request = tallyhook_core::domain::pull_request::PullRequest::unknown(self.key);
        pull_request.apply(opened, super::Source::Webhook);
        let at = Timestamp::clamped;
        pull_request
            .author
            .as_mut()
            .unwrap()
            .value
            .0
            .login
            .clone_from(&self.author);
        pull_request.author.as_mut().unwrap().value.0.kind = AccountKind::User;
        pull_request.conversation.as_mut().unwrap().at = at(self.updated_at);
        pull_request.conversation.as_mut().unwrap().value.closed_at = self.closed_at.map(at);
        pull_request.merged_at = self.merged_at.map(at);
        let known = StoredPullRequest {
            pull_request,
            version: 0,
            repository: None,
            parties_hash: None,
        };
        PullRequestRecord {
            known,
            numbers: Some(Numbers {
                timings: self.timings.clone(),
                business: self.business.clone(),
                turns: Turns::default(),
                origin: PullRequestOrigin::default(),
            }),
            reviews: BTreeSet::new(),
        }
    }

    fn merged(&self, clock: DurationClock) -> Option<MergedPullRequest> {
        let Timings {
            author_is_bot,
            flags,
            cycle_time,
            review_time,
            stages,
            ..
        } = &self.timings;
        let calendar = PullRequestDurations {
            cycle_time: *cycle_time,
            review_time: *review_time,
            stages: *stages,
        };
        let business = self.business.as_ref().map(|business| business.durations);
        let (has_calendar, durations) = match clock {
            DurationClock::Calendar => (true, calendar),
            DurationClock::Business => (business.is_some(), business.unwrap_or_default()),
        };
        Some(MergedPullRequest {
            has_calendar,
            merged_at: Timestamp::clamped(self.merged_at?),
            author_is_bot: *author_is_bot,
            origin: None,
            flags: flags.iter().copied().collect(),
            durations,
        })
    }
}

/// Generates pull requests and writes them.
async fn write_generated(
    store: &Store,
    random: &mut SmallRng,
    number: i64,
) -> Vec<GeneratedPullRequest> {
    let write_generated: Vec<_> = (0..number).map(|number| generate(random, number)).collect();
    let repositories = (1..4).map(|id| {
        let mut repository = repository(
            100,
            &format!("acme-corp/{id}"),
            super::RepositoryAccess::Granted,
        );
        repository.repository.id = RepoId(id);
        repository
    });
    let recording = BatchWrite {
        pull_requests: write_generated
            .iter()
            .map(GeneratedPullRequest::record)
            .collect(),
        repositories: repositories.collect(),
        ..BatchWrite::default()
    };
    store.record(&recording, now()).await.unwrap().unwrap();
    write_generated
}

async fn aggregates_equal_those_of_the_domain_rules(database: Database) {
    database.set_time_zone("Pacific/Auckland");
    let store = open(&database).await;
    let seed = rand::random();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut all = write_generated(&store, &mut random, 400).await;
    all.sort_by_key(|one| one.merged_at);
    for _ in 0..60 {
        let mut random_timestamp = || {
            random
                .random_bool(0.6)
                .then(|| 1_772_445_600 + random.random_range(-45_i64..45) * 21_600)
        };
        let (from, to) = (random_timestamp(), random_timestamp());
        let filter = AggregateFilter {
            repo: [None, Some(RepoId(1)), Some(RepoId(2)), Some(RepoId(9))]
                .choose(&mut random)
                .copied()
                .flatten(),
            from: from.map(Timestamp::clamped),
            to: to.map(Timestamp::clamped),
            authors: *[AuthorFilter::Human, AuthorFilter::Human, AuthorFilter::Bot]
                .choose(&mut random)
                .unwrap(),
            bucket: *[
                None,
                Some(CalendarBucket::Day),
                Some(CalendarBucket::Week),
                Some(CalendarBucket::Month),
            ]
            .choose(&mut random)
            .unwrap(),
            zone: ["UTC", "America/St_Johns", "Pacific/Auckland"]
                .choose(&mut random)
                .filter(|name| **name != "UTC")
                .map(|name| name.parse::<NamedZone>().unwrap().time_zone),
            clock: *[DurationClock::Calendar, DurationClock::Business]
                .choose(&mut random)
                .unwrap(),
            by_origin: false,
        };
        let wanted = |one: &GeneratedPullRequest, at: i64| {
            filter.repo.is_none_or(|repo| repo == one.key.repo)
                && from.is_none_or(|from| from <= at)
                && to.is_none_or(|to| at < to)
        };
        let mut expected = Aggregation::new(filter.authors, filter.bucket)
            .in_zone(filter.zone.clone().unwrap_or(TimeZone::UTC));
        for one in &all {
            if let Some(merged) = one
                .merged(filter.clock)
                .filter(|merged| wanted(one, merged.merged_at.epoch()))
            {
                expected.add(&merged);
            }
        }
        let mut expected = expected.finish();
        let closed = all.iter().filter(|one| {
            one.timings.state == PullRequestState::Closed
                && one.timings.author_is_bot == (filter.authors == AuthorFilter::Bot)
                && one.closed_at.is_some_and(|at| wanted(one, at))
        });
        expected.all.closed_unmerged = Some(closed.count() as u64);
        assert_eq!(
            store
                .of_team(DEFAULT_TEAM.0)
                .aggregates(&filter)
                .await
                .unwrap(),
            expected,
            "seed {seed}: {filter:?}"
        );
    }
}

async fn pages_are_complete_and_in_order_under_every_filter(database: Database) {
    let store = open(&database).await;
    let seed = rand::random();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut all = write_generated(&store, &mut random, 300).await;
    all.sort_by_key(|one| std::cmp::Reverse((one.updated_at, one.key)));
    for _ in 0..60 {
        let mut random_timestamp = || {
            random
                .random_bool(0.3)
                .then(|| 1_772_445_600 + random.random_range(-45_i64..45) * 21_600)
        };
        let (from, to) = (random_timestamp(), random_timestamp());
        let every = [
            StateFilter::Open,
            StateFilter::Closed,
            StateFilter::ClosedUnmerged,
            StateFilter::Merged,
        ];
        let states: Vec<_> = every
            .into_iter()
            .filter(|_| random.random_bool(0.3))
            .collect();
        let repo = [None, Some(RepoId(1)), Some(RepoId(9))]
            .choose(&mut random)
            .copied()
            .flatten();
        let author = [None, Some("aCCOUNT-1"), Some("nobody")]
            .choose(&mut random)
            .copied()
            .flatten();
        let expected = all.iter().filter(|one| {
            let of_state = |state: &StateFilter| match state {
                StateFilter::Open => one.timings.state == PullRequestState::Open,
                StateFilter::Closed => one.timings.state != PullRequestState::Open,
                StateFilter::ClosedUnmerged => one.timings.state == PullRequestState::Closed,
                StateFilter::Merged => one.timings.state == PullRequestState::Merged,
            };
            (states.is_empty() || states.iter().any(of_state))
                && repo.is_none_or(|repo| repo == one.key.repo)
                && author.is_none_or(|author| author.eq_ignore_ascii_case(&one.author))
                && from.is_none_or(|from| from <= one.updated_at)
                && to.is_none_or(|to| one.updated_at < to)
        });
        let mut filter = PullRequestFilter {
            states: states.clone(),
            repo,
            author: author.map(str::to_owned),
            from: from.map(Timestamp::clamped),
            to: to.map(Timestamp::clamped),
            ..PullRequestFilter::default()
        };
        let mut read: Vec<PullRequestRow> = Vec::new();
        loop {
            let page = store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&filter, 17)
                .await
                .unwrap();
            let Some(last) = page.last() else { break };
            filter.after = Some(filter.order.place(last));
            read.extend(page);
        }
        let read: Vec<_> = read.iter().map(|row| row.key).collect();
        assert_eq!(
            read,
            expected.map(|one| one.key).collect::<Vec<_>>(),
            "seed {seed}: {filter:?}"
        );
    }
}

async fn lists_have_as_many_rows_as_aggregates_count(database: Database) {
    let store = open(&database).await;
    let seed = rand::random();
    let mut random = SmallRng::seed_from_u64(seed);
    write_generated(&store, &mut random, 400).await;
    // A duration that cannot be leaves one out, in both.
    database
        .execute("UPDATE pull_requests SET coding_s = -1 WHERE number = 7")
        .await;
    let listed = |details: DetailFilter, repo| PullRequestFilter {
        repo,
        details,
        ..PullRequestFilter::default()
    };
    let counted = DetailFilter {
        counted: true,
        ..DetailFilter::default()
    };
    let rows = store
        .of_team(DEFAULT_TEAM.0)
        .pull_requests(&listed(counted, None), 400)
        .await;
    // A flag alone can be about a commit that is dated after the merge.
    let skewed = |row: &PullRequestRow| row.flags == [Flag::ClockSkew.as_str()];
    assert!(rows.unwrap().iter().any(skewed), "seed {seed}");
    let authors = [
        AuthorFilter::Human,
        AuthorFilter::Automation,
        AuthorFilter::All,
    ];
    let clocks = [DurationClock::Calendar, DurationClock::Business];
    let repos = [None, Some(RepoId(1))];
    let cases = authors.iter().flat_map(|authors| {
        let clocks = clocks.iter().map(move |clock| (*authors, *clock));
        clocks.flat_map(|(authors, clock)| repos.map(|repo| (authors, clock, repo)))
    });
    for (authors, clock, repo) in cases {
        let filter = AggregateFilter {
            repo,
            authors,
            clock,
            ..AggregateFilter::default()
        };
        let summary = store
            .of_team(DEFAULT_TEAM.0)
            .aggregates(&filter)
            .await
            .unwrap()
            .all;
        let team = store.of_team(DEFAULT_TEAM.0);
        let measured = team.measured(&filter, DurationName::Pickup, Measurements::distribution);
        let (measured, pickup) = (measured.await.unwrap(), &summary.stages.pickup);
        assert_eq!(
            (measured.n, measured.missing, measured.p50_hours),
            (pickup.n, pickup.missing, pickup.p50_hours),
            "seed {seed}: {filter:?}"
        );
        for (details, expected) in numbers_of(&summary, authors, clock) {
            let filter = listed(details, repo);
            let (n, exact) = store
                .of_team(DEFAULT_TEAM.0)
                .count_pull_requests(&filter)
                .await
                .unwrap();
            let rows = store
                .of_team(DEFAULT_TEAM.0)
                .pull_requests(&filter, 400)
                .await
                .unwrap();
            assert_eq!(
                (n, exact, rows.len() as u64),
                (expected, true, expected),
                "seed {seed}: {filter:?}"
            );
        }
    }
}

/// Returns each number of a summary with the details of the list that has as many rows.
fn numbers_of(
    summary: &Summary,
    authors: AuthorFilter,
    clock: DurationClock,
) -> Vec<(DetailFilter, u64)> {
    let all = DetailFilter {
        clock,
        authors: Some(authors),
        ..DetailFilter::default()
    };
    let counted = DetailFilter {
        counted: true,
        ..all.clone()
    };
    let mut numbers = vec![(counted.clone(), summary.counted as u64)];
    let stages = &summary.stages;
    for (name, duration) in [
        (DurationName::Cycle, &summary.cycle_time),
        (DurationName::ReviewTime, &summary.review_time),
        (DurationName::Coding, &stages.coding),
        (DurationName::Pickup, &stages.pickup),
        (DurationName::Closed, &stages.closed),
    ] {
        let has = DetailFilter {
            duration: Some((name, None, None)),
            ..counted.clone()
        };
        let lacks = DetailFilter {
            missing: Some(name),
            ..counted.clone()
        };
        numbers.push((has, duration.n as u64));
        numbers.push((lacks, duration.missing as u64));
    }
    for (reason, n) in &summary.excluded {
        let excluded = DetailFilter {
            excluded: Some(reason.parse().unwrap()),
            ..all.clone()
        };
        numbers.push((excluded, *n));
    }
    for (flag, n) in &summary.flags {
        let flagged = DetailFilter {
            flag: Some(flag.parse().unwrap()),
            ..counted.clone()
        };
        numbers.push((flagged, *n));
    }
    numbers
}

async fn titles_are_found_regardless_of_ascii_case(database: Database) {
    let store = open(&database).await;
    write(&store, &WHOLE_LIFE).await;
    database
        .execute("UPDATE pull_requests SET title = 'Größere Änderung', head_ref = 'Über'")
        .await;
    for (text, found) in [
        ("Änderung", 1),
        ("ÄNDERUNG", 1),
        ("änderung", 0),
        ("grö", 1),
        ("ÜBER", 1),
        ("über", 0),
    ] {
        let filter = PullRequestFilter {
            details: DetailFilter {
                text: Some(text.to_owned()),
                ..DetailFilter::default()
            },
            ..PullRequestFilter::default()
        };
        let listed = store
            .of_team(DEFAULT_TEAM.0)
            .pull_requests(&filter, 9)
            .await
            .unwrap();
        assert_eq!(listed.len(), found, "{text}");
    }
}
