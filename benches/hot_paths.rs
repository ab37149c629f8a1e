//! The costs of every delivery: `cargo bench`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::timings::timings;
use tallyhook_core::domain::waiting::turns;
use tallyhook_core::event::{self, PullRequestEvent};
use tallyhook_core::github::signature::{Secrets, Signature};
use tallyhook_store::StoredBody;

use testkit::payloads::{self, Account, Comment, Pr, Review, World};

const KIB: usize = 1024;

fn author() -> Account {
    Account::user(900_000_101, "mona")
}

fn reviewer(place: i64) -> Account {
    Account::user(900_000_200 + place, &format!("reviewer-{place}"))
}

fn at(minute: i64) -> String {
    payloads::rfc3339(payloads::epoch_seconds("2026-03-02T09:00:00Z") + minute * 60)
}

fn opened() -> Pr {
    Pr::new(
        &World::acme(),
        7,
        Some(&author()),
        "Answer from the commit",
        "answer-from-commit",
        &at(0),
    )
}

/// The text of a payload, its description shortened or filled up until the whole has `size` bytes.
fn sized(mut payload: Value, size: usize) -> Vec<u8> {
    if let Some(fields) = payload.as_object_mut() {
        fields.remove("organization");
    }
    let mut excess = payload.to_string().len().saturating_sub(size);
    drop_links(&mut payload, &mut excess);
    let missing = size - payload.to_string().len();
    let text = payload["pull_request"]["body"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    payload["pull_request"]["body"] =
        (text + &" and the worker waits for a commit".repeat(KIB)[..missing]).into();
    payload.to_string().into_bytes()
}

/// Drops unused links until `excess` bytes are gone.
fn drop_links(value: &mut Value, excess: &mut usize) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    fields.retain(|key, field| {
        let dropped = *excess > 0 && key.ends_with("_url") && key != "html_url";
        if dropped {
            *excess = excess.saturating_sub(key.len() + field.to_string().len() + 4);
        }
        !dropped
    });
    fields
        .values_mut()
        .for_each(|field| drop_links(field, excess));
}

fn pull_request_body() -> Vec<u8> {
    sized(
        payloads::pull_request_event(&opened(), "opened", &author(), json!({})),
        20 * KIB,
    )
}

/// A review as GitHub's own examples have it: of a small repository, without most of the links.
fn review_body() -> Vec<u8> {
    let payload =
        payloads::review_event(&opened(), "submitted", &review(&opened(), 1), &reviewer(1));
    sized(payload, 12 * KIB)
}

fn review(pr: &Pr, place: i64) -> Review {
    Review {
        id: 4_300_000_000 + place,
        reviewer: Some(reviewer(place % 4)),
        state: if place % 3 == 0 {
            "approved"
        } else {
            "commented"
        }
        .to_owned(),
        body: None,
        commit_id: pr.head_sha.clone(),
        submitted_at: pr.updated_at.clone(),
    }
}

fn decoded(name: &str, payload: &Value) -> PullRequestEvent {
    let event = event::decode(name, payload.to_string().as_bytes()).expect("it is one of GitHub's");
    event
        .pull_request()
        .cloned()
        .expect("it is about a pull request")
}

/// A pull request of forty facts and ten reviews, merged; and its last event.
fn long_story() -> (PullRequest, PullRequestEvent) {
    let mut pr = opened();
    let mut events = vec![decoded(
        "pull_request",
        &payloads::pull_request_event(&pr, "opened", &author(), json!({})),
    )];
    for place in 0..10 {
        pr.touch(&at(place * 60 + 10));
        let comment = Comment {
            id: place,
            author: Some(reviewer(place % 4)),
            body: "?".to_owned(),
            created_at: at(place * 60 + 10),
        };
        events.push(decoded(
            "issue_comment",
            &payloads::issue_comment_event(&pr, "created", &comment, &reviewer(place % 4)),
        ));
        pr.touch(&at(place * 60 + 20));
        let seen = review(&pr, place);
        events.push(decoded(
            "pull_request_review",
            &payloads::review_event(&pr, "submitted", &seen, &reviewer(place % 4)),
        ));
        for step in 0..2 {
            let (before, after) = pr.push(&at(place * 60 + 30 + step));
            let pushed = json!({"before": before, "after": after});
            events.push(decoded(
                "pull_request",
                &payloads::pull_request_event(&pr, "synchronize", &author(), pushed),
            ));
        }
        pr.touch(&at(place * 60 + 40));
        events.push(decoded(
            "pull_request",
            &payloads::pull_request_event(
                &pr,
                "edited",
                &author(),
                json!({"changes": {"body": {}}}),
            ),
        ));
    }
    pr.merge(&author(), &at(700));
    let merged = decoded(
        "pull_request",
        &payloads::pull_request_event(&pr, "closed", &author(), json!({})),
    );
    let mut pull_request = PullRequest::unknown(merged.key());
    for event in events.iter().chain([&merged]) {
        pull_request.apply(event, Source::Webhook);
    }
    (pull_request, merged)
}

fn bytes(criterion: &mut Criterion) {
    let secrets = Secrets::single("a secret of the benches").expect("it is not empty");
    let mut group = criterion.benchmark_group("signature");
    for size in [8 * KIB, 20 * KIB] {
        let body = pull_request_body()[..size.min(20 * KIB)].to_vec();
        let signature =
            Signature::parse(&secrets.sign(&body).to_header()).expect("it was just made");
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("verify {} KiB", size / KIB), |bench| {
            bench.iter(|| secrets.verify(black_box(&body), &signature));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("decode");
    for (name, body) in [
        ("pull_request", pull_request_body()),
        ("pull_request_review", review_body()),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("{name} {} KiB", body.len() / KIB), |bench| {
            bench.iter(|| event::decode(name, black_box(&body)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("stored body");
    let body = pull_request_body();
    let stored = StoredBody::compress(&body).expect("there is memory");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("compress 20 KiB", |bench| {
        bench.iter(|| StoredBody::compress(black_box(&body)))
    });
    group.bench_function("decompress 20 KiB", |bench| {
        bench.iter(|| black_box(&stored).decompress())
    });
    group.finish();
}

fn rules(criterion: &mut Criterion) {
    let (pull_request, merged) = long_story();
    assert!(pull_request.timeline.len() >= 40 && pull_request.reviews.len() == 10);
    let mut group = criterion.benchmark_group("rules");
    group.bench_function("timings of 40 facts and 10 reviews", |bench| {
        bench.iter(|| timings(black_box(&pull_request), &Bots::default()));
    });
    group.bench_function("turns of 40 facts and 10 reviews", |bench| {
        let rules = NumberRules::default();
        bench.iter(|| turns(black_box(&pull_request), None, &rules, None));
    });
    group.bench_function("apply to 40 facts and 10 reviews", |bench| {
        let mut known = pull_request.clone();
        bench.iter(|| known.apply(black_box(&merged), Source::Webhook));
    });
    group.finish();
}

criterion_group! {
    name = hot_paths;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = bytes, rules
}
criterion_main!(hot_paths);
