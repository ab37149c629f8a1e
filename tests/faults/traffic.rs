//! Deliveries with known outcomes: lives of pull requests, shuffled, some sent twice. Bodies are
//! payloads of the test kit with the number of the pull request patched in, so that a hundred
//! thousand cost little.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::event;
use tallyhook_core::github::types::PrKey;

use testkit::payloads::{self, Account, Pr, World};

/// The number in the templates; seven digits that end every id made from them.
const NUMBER: i64 = 7_000_001;
/// The number of deliveries of a pull request.
const STEPS: usize = 6;
/// The share of deliveries that are sent a second time.
const TWICE: f64 = 0.05;

struct Template {
    event: &'static str,
    body: Vec<u8>,
    numbers: Vec<usize>,
}

/// One request.
pub(crate) struct Delivery {
    pub(crate) event: &'static str,
    pub(crate) guid: String,
    pub(crate) body: Vec<u8>,
}

/// Deliveries in the order in which they are sent.
pub(crate) struct Traffic {
    stories: Vec<[Template; STEPS]>,
    order: Vec<usize>,
    seed: u64,
}

impl Traffic {
    /// Generates `deliveries` different deliveries, some of which are repeated.
    pub(crate) fn new(seed: u64, deliveries: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut order: Vec<_> = (0..deliveries).collect();
        order.extend((0..deliveries).filter(|_| random.random_bool(TWICE)));
        order.shuffle(&mut random);
        Self {
            stories: stories(),
            order,
            seed,
        }
    }

    /// Returns the number of requests, including repetitions.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    fn template(&self, delivery: usize) -> &Template {
        let pull_request = delivery / STEPS;
        &self.stories[pull_request % self.stories.len()][delivery % STEPS]
    }

    /// Returns the request at this place of the order.
    pub(crate) fn request(&self, place: usize) -> Delivery {
        self.delivery(self.order[place])
    }

    fn delivery(&self, delivery: usize) -> Delivery {
        let Template {
            event,
            body,
            numbers,
        } = self.template(delivery);
        let digits = (NUMBER.unsigned_abs() as usize + delivery / STEPS).to_string();
        let mut body = body.clone();
        for at in numbers {
            body[*at..*at + digits.len()].copy_from_slice(digits.as_bytes());
        }
        Delivery {
            event,
            guid: self.guid(delivery),
            body,
        }
    }

    fn guid(&self, delivery: usize) -> String {
        format!("{:08x}-0000-4000-8000-{delivery:012x}", self.seed)
    }

    /// Returns the GUID of a delivery that changes facts, among the first `until` requests.
    pub(crate) fn some_guid(&self, until: usize) -> String {
        let fit = |delivery: &&usize| self.template(**delivery).event == "pull_request";
        let delivery = self.order[until / 2..until].iter().find(fit).unwrap();
        self.guid(*delivery)
    }

    /// Returns the facts that must be stored once the first `until` requests are done, apart from
    /// the deliveries in `without`.
    pub(crate) fn expected(&self, until: usize, without: &BTreeSet<String>) -> Expected {
        let mut expected = Expected::default();
        let different: BTreeSet<usize> = self.order[..until].iter().copied().collect();
        for delivery in different {
            let Delivery { event, guid, body } = self.delivery(delivery);
            if without.contains(&guid) {
                expected.dead.insert(guid);
                continue;
            }
            let decoded = event::decode(event, &body).ok();
            match decoded.as_ref().and_then(event::Event::pull_request) {
                Some(event) => {
                    let key = event.key();
                    let known = expected
                        .facts
                        .entry(key)
                        .or_insert_with(|| PullRequest::unknown(key));
                    known.apply(event, Source::Webhook);
                    expected.applied.insert(guid);
                }
                None => drop(expected.ignored.insert(guid)),
            }
        }
        expected
    }
}

/// The facts at the end of an undisturbed run.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) facts: BTreeMap<PrKey, PullRequest>,
    /// The GUIDs of the deliveries that must be applied.
    pub(crate) applied: BTreeSet<String>,
    pub(crate) ignored: BTreeSet<String>,
    pub(crate) dead: BTreeSet<String>,
}

impl Expected {
    pub(crate) fn deliveries(&self) -> usize {
        self.applied.len() + self.ignored.len() + self.dead.len()
    }
}

/// Returns three lives of pull requests: changed on request and merged; a draft first; closed
/// without a merge.
fn stories() -> Vec<[Template; STEPS]> {
    let story = |steps: [(&'static str, Value); STEPS]| {
        steps.map(|(event, payload)| template(event, &payload))
    };
    vec![
        story(changed_on_request()),
        story(draft_first()),
        story(closed_in_the_end()),
    ]
}

fn template(event: &'static str, payload: &Value) -> Template {
    let body = payload.to_string();
    let numbers = body
        .match_indices(&NUMBER.to_string())
        .map(|(at, _)| at)
        .collect();
    Template {
        event,
        body: body.into_bytes(),
        numbers,
    }
}

fn at(minute: i64) -> String {
    payloads::rfc3339(payloads::epoch_seconds("2026-03-02T09:00:00Z") + minute * 60)
}

fn people() -> (Account, Account) {
    (
        Account::user(900_000_101, "mona"),
        Account::user(900_000_102, "rita"),
    )
}

fn pull_request(author: &Account, title: &str) -> Pr {
    Pr::new(&World::acme(), NUMBER, Some(author), title, "topic", &at(0))
}

fn review(pr: &Pr, id: i64, state: &str, minute: i64) -> Value {
    let (_, reviewer) = people();
    let review = payloads::Review {
        id: id + NUMBER,
        reviewer: Some(reviewer.clone()),
        state: state.to_owned(),
        body: None,
        commit_id: pr.head_sha.clone(),
        submitted_at: at(minute),
    };
    payloads::review_event(pr, "submitted", &review, &reviewer)
}

fn comment(pr: &Pr, minute: i64) -> Value {
    let (_, author) = people();
    let body = "Does this hold when the disk is full?".to_owned();
    let comment = payloads::Comment {
        id: 4_200_000_000 + NUMBER,
        author: Some(author.clone()),
        body,
        created_at: at(minute),
    };
    payloads::issue_comment_event(pr, "created", &comment, &author)
}

fn changed_on_request() -> [(&'static str, Value); STEPS] {
    let (author, _) = people();
    let mut pr = pull_request(&author, "Answer from the commit");
    let opened = payloads::pull_request_event(&pr, "opened", &author, json!({}));
    pr.touch(&at(20));
    pr.comments = 1;
    let commented = comment(&pr, 20);
    pr.touch(&at(45));
    let refused = review(&pr, 4_300_000_000, "changes_requested", 45);
    let (before, after) = pr.push(&at(90));
    let pushed = payloads::pull_request_event(
        &pr,
        "synchronize",
        &author,
        json!({"before": before, "after": after}),
    );
    pr.touch(&at(120));
    let approved = review(&pr, 4_400_000_000, "approved", 120);
    pr.merge(&author, &at(125));
    let merged = payloads::pull_request_event(&pr, "closed", &author, json!({}));
    [
        ("pull_request", opened),
        ("issue_comment", commented),
        ("pull_request_review", refused),
        ("pull_request", pushed),
        ("pull_request_review", approved),
        ("pull_request", merged),
    ]
}

fn draft_first() -> [(&'static str, Value); STEPS] {
    let (author, merger) = people();
    let mut pr = pull_request(&author, "Keep the order");
    pr.draft = true;
    let opened = payloads::pull_request_event(&pr, "opened", &author, json!({}));
    pr.title = "Keep the order of events".to_owned();
    pr.touch(&at(10));
    let changes = json!({"changes": {"title": {"from": "Keep the order"}}});
    let edited = payloads::pull_request_event(&pr, "edited", &author, changes);
    pr.draft = false;
    pr.touch(&at(300));
    let ready = payloads::pull_request_event(&pr, "ready_for_review", &author, json!({}));
    pr.touch(&at(360));
    let commented = review(&pr, 4_300_000_000, "commented", 360);
    pr.touch(&at(420));
    let approved = review(&pr, 4_400_000_000, "approved", 420);
    pr.merge(&merger, &at(1500));
    let merged = payloads::pull_request_event(&pr, "closed", &merger, json!({}));
    [
        ("pull_request", opened),
        ("pull_request", edited),
        ("pull_request", ready),
        ("pull_request_review", commented),
        ("pull_request_review", approved),
        ("pull_request", merged),
    ]
}

/// The life of a closed pull request, with a comment on an issue that is no pull request, which is
/// ignored.
fn closed_in_the_end() -> [(&'static str, Value); STEPS] {
    let (author, closer) = people();
    let mut pr = pull_request(&author, "Try another queue");
    let opened = payloads::pull_request_event(&pr, "opened", &author, json!({}));
    let elsewhere = payloads::on_plain_issue(comment(&pr, 15));
    pr.touch(&at(30));
    let commented = comment(&pr, 30);
    pr.close(&at(60));
    let closed = payloads::pull_request_event(&pr, "closed", &closer, json!({}));
    pr.reopen(&at(90));
    let reopened = payloads::pull_request_event(&pr, "reopened", &author, json!({}));
    pr.close(&at(200));
    let closed_again = payloads::pull_request_event(&pr, "closed", &author, json!({}));
    [
        ("pull_request", opened),
        ("issue_comment", elsewhere),
        ("issue_comment", commented),
        ("pull_request", closed),
        ("pull_request", reopened),
        ("pull_request", closed_again),
    ]
}
