//! What is posted: payloads as GitHub sends them, brought to size, signed ahead of time and patched while sending.
//!
//! Each pull request has six deliveries, and those of one are [`WINDOW`] apart, so that no batch of the workers finds
//! two of the same pull request: the costly case, and the usual one.

use serde_json::{Value, json};
use tallyhook_core::github::signature::Secrets;

use crate::payloads::{self, Account, Pr, World};

pub(crate) const SECRET: &str = "a secret of the load test";
const KIB: usize = 1024;
/// How many pull requests take turns.
const WINDOW: usize = 512;
/// The number in the templates; seven digits that stand for themselves and end every id made from them.
const NUMBER: i64 = 7_000_001;
const GUID: &[u8] = b"00000000-0000-0000-0000-000000000000";

/// What the deliveries of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `issue_comment` of 8 KiB.
    Small,
    /// `pull_request` of 20 KiB.
    Large,
    /// The life of a pull request: opened, commented, reviewed, pushed to, approved, merged.
    Life,
}

/// The deliveries of a run, each with its signature.
pub(crate) struct Traffic {
    requests: Vec<Template>,
    /// Hexadecimal, by delivery.
    tags: Vec<[u8; 64]>,
}

/// One request as it goes over the wire, and where it is patched.
#[derive(Clone)]
struct Template {
    bytes: Vec<u8>,
    body: usize,
    numbers: Vec<usize>,
    guid: usize,
    tag: usize,
}

/// One connection's own copies of the templates, so that only what differs is written each time.
pub(crate) struct Writer(Vec<Template>);

impl Traffic {
    /// Builds and signs `deliveries` of `kind`.
    pub(crate) fn new(kind: Kind, deliveries: usize) -> anyhow::Result<Self> {
        let requests = templates(kind);
        let secrets =
            Secrets::single(SECRET).ok_or_else(|| anyhow::anyhow!("the secret is empty"))?;
        let mut writer = Writer(requests.clone());
        let mut tags = Vec::with_capacity(deliveries);
        for delivery in 0..deliveries {
            let template = writer.numbered(delivery);
            let header = secrets.sign(&template.bytes[template.body..]).to_header();
            let mut tag = [0; 64];
            tag.copy_from_slice(&header.as_bytes()["sha256=".len()..]);
            tags.push(tag);
        }
        Ok(Self { requests, tags })
    }

    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer(self.requests.clone())
    }

    /// The bytes of a delivery. Those beyond the signed ones repeat bodies, under a GUID of their own.
    pub(crate) fn write<'a>(
        &self,
        writer: &'a mut Writer,
        delivery: usize,
        guid: u128,
    ) -> &'a [u8] {
        let signed = delivery % self.tags.len();
        let template = writer.numbered(signed);
        template.bytes[template.tag..template.tag + 64].copy_from_slice(&self.tags[signed]);
        write_guid(
            &mut template.bytes[template.guid..template.guid + GUID.len()],
            guid,
        );
        &template.bytes
    }

    /// The mean size of a body, in bytes.
    pub(crate) fn body_bytes(&self) -> usize {
        let bodies = self
            .requests
            .iter()
            .map(|template| template.bytes.len() - template.body);
        bodies.sum::<usize>() / self.requests.len()
    }
}

impl Writer {
    /// The template of a delivery, with its pull request's number in it.
    fn numbered(&mut self, delivery: usize) -> &mut Template {
        let steps = self.0.len();
        let (round, place) = (delivery / (WINDOW * steps), delivery % (WINDOW * steps));
        let pull_request = round * WINDOW + place % WINDOW;
        let template = &mut self.0[place / WINDOW];
        let mut digits = [0; 7];
        let mut rest = NUMBER.unsigned_abs() as usize + pull_request;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        for at in &template.numbers {
            template.bytes[*at..*at + digits.len()].copy_from_slice(&digits);
        }
        template
    }
}

fn write_guid(place: &mut [u8], guid: u128) {
    let mut nibbles = (0..32).rev().map(|nibble| (guid >> (nibble * 4)) & 0xf);
    for (digit, dash) in place.iter_mut().zip(GUID) {
        if *dash != b'-' {
            *digit = b"0123456789abcdef"
                [usize::try_from(nibbles.next().unwrap_or_default()).unwrap_or_default()];
        }
    }
}

fn templates(kind: Kind) -> Vec<Template> {
    let life = life();
    let wanted = life.into_iter().filter(|(event, payload)| match kind {
        Kind::Small => *event == "issue_comment",
        Kind::Large => *event == "pull_request" && payload["action"] == "opened",
        Kind::Life => true,
    });
    wanted
        .map(|(event, payload)| Template::new(event, payload))
        .collect()
}

/// The six deliveries of one pull request.
fn life() -> [(&'static str, Value); 6] {
    let world = World::acme();
    let (author, reviewer) = (
        Account::user(900_000_101, "mona"),
        Account::user(900_000_102, "hubot-reviewer"),
    );
    let at = |minute: i64| {
        payloads::rfc3339(payloads::epoch_seconds("2026-03-02T09:00:00Z") + minute * 60)
    };
    let mut pr = Pr::new(
        &world,
        NUMBER,
        Some(&author),
        "Answer from the commit",
        "answer-from-commit",
        &at(0),
    );
    let opened = payloads::pull_request_event(&pr, "opened", &author, json!({}));
    pr.touch(&at(20));
    pr.comments = 1;
    let comment = payloads::Comment {
        id: 4_200_000_000 + NUMBER,
        author: Some(reviewer.clone()),
        body: "Does this hold when the disk is full?".to_owned(),
        created_at: at(20),
    };
    let commented = payloads::issue_comment_event(&pr, "created", &comment, &reviewer);
    let review = |pr: &Pr, id: i64, state: &str, at: &str| payloads::Review {
        id: id + NUMBER,
        reviewer: Some(reviewer.clone()),
        state: state.to_owned(),
        body: None,
        commit_id: pr.head_sha.clone(),
        submitted_at: at.to_owned(),
    };
    pr.touch(&at(45));
    let first = review(&pr, 4_300_000_000, "changes_requested", &at(45));
    let reviewed = payloads::review_event(&pr, "submitted", &first, &reviewer);
    let (before, after) = pr.push(&at(90));
    let pushed = payloads::pull_request_event(
        &pr,
        "synchronize",
        &author,
        json!({"before": before, "after": after}),
    );
    pr.touch(&at(120));
    let second = review(&pr, 4_400_000_000, "approved", &at(120));
    let approved = payloads::review_event(&pr, "submitted", &second, &reviewer);
    pr.merge(&author, &at(125));
    let merged = payloads::pull_request_event(&pr, "closed", &author, json!({}));
    [
        ("pull_request", opened),
        ("issue_comment", commented),
        ("pull_request_review", reviewed),
        ("pull_request", pushed),
        ("pull_request_review", approved),
        ("pull_request", merged),
    ]
}

impl Template {
    fn new(event: &str, mut payload: Value) -> Self {
        let size = if event == "issue_comment" {
            8 * KIB
        } else {
            20 * KIB
        };
        bring_to_size(&mut payload, size);
        let body = payload.to_string();
        let head = format!(
            "POST /webhooks/github HTTP/1.1\r\nHost: localhost\r\nUser-Agent: GitHub-Hookshot/044aadd\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-GitHub-Event: {event}\r\n\
             X-GitHub-Delivery: {}\r\nX-Hub-Signature-256: sha256={}\r\n\r\n",
            body.len(),
            String::from_utf8_lossy(GUID),
            "0".repeat(64),
        );
        let numbers = body
            .match_indices(&NUMBER.to_string())
            .map(|(at, _)| head.len() + at)
            .collect();
        let guid =
            head.find("X-GitHub-Delivery: ").unwrap_or_default() + "X-GitHub-Delivery: ".len();
        let tag = head.find("sha256=").unwrap_or_default() + "sha256=".len();
        Self {
            body: head.len(),
            bytes: (head + &body).into_bytes(),
            numbers,
            guid,
            tag,
        }
    }
}

/// Drops what a personal repository's payload lacks and links that lead nowhere here, then fills up the description.
fn bring_to_size(payload: &mut Value, size: usize) {
    if let Some(payload) = payload.as_object_mut() {
        payload.remove("organization");
    }
    let mut dropped = ["issue", "comment"].iter();
    while payload.to_string().len() > size {
        let links: Vec<_> = payload["repository"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect();
        if let Some(link) = links
            .iter()
            .find(|key| key.ends_with("_url") && *key != "html_url")
        {
            let repository = payload["repository"].as_object_mut();
            repository.map(|repository| repository.remove(link));
        } else if let Some(object) = dropped.next() {
            let object = payload[*object].as_object_mut();
            object.map(|object| object.remove("reactions"));
        } else {
            break;
        }
    }
    let missing = size.saturating_sub(payload.to_string().len());
    let object = if payload["issue"].is_object() {
        "issue"
    } else {
        "pull_request"
    };
    let text = payload[object]["body"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
        + &prose(missing);
    payload[object]["body"] = text.into();
}

/// Words in an order that compresses about as well as what people write.
fn prose(length: usize) -> String {
    const WORDS: [&str; 24] = [
        "the", "commit", "waits", "for", "a", "disk", "before", "answer", "queue", "worker", "and",
        "review", "since", "every", "delivery", "keeps", "its", "order", "when", "restart",
        "checks", "table", "index", "merge",
    ];
    let mut state = 1_u64;
    let mut text = String::new();
    while text.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push(' ');
        text.push_str(WORDS[usize::try_from(state >> 33).unwrap_or_default() % WORDS.len()]);
    }
    text.truncate(length);
    text
}
