//! The expected answer of Tallyhook for one pull request, as the story states it.

use serde_json::{Value, json};

use crate::chapter::full_time;
use testkit::payloads::{Pr, epoch_seconds};

/// The answer for one pull request; times in the story's short form, everything unsaid is `null` or
/// empty.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) story: &'static str,
    pub(crate) title: &'static str,
    /// `open`, `closed` (unmerged) or `merged`.
    pub(crate) state: &'static str,
    pub(crate) draft: bool,
    pub(crate) author_is_bot: bool,
    pub(crate) ready_at: Option<&'static str>,
    pub(crate) first_response_at: Option<&'static str>,
    pub(crate) first_review_at: Option<&'static str>,
    pub(crate) final_approval_at: Option<&'static str>,
    pub(crate) closed_at: Option<&'static str>,
    pub(crate) merged_at: Option<&'static str>,
    pub(crate) cycle_time_hours: Option<f64>,
    pub(crate) review_time_hours: Option<f64>,
    pub(crate) stages: Stages,
    /// In alphabetical order.
    pub(crate) flags: &'static [&'static str],
    /// `None` where the file does not say.
    pub(crate) turns: Option<ExpectedTurns>,
}

/// Noon after the story's last delivery. Numbers of open pull requests are of this time.
const AS_OF: &str = "03-20 12:00";

/// The answers to "who is waited for" as of [`AS_OF`], worked out by hand.
#[derive(Default)]
pub(crate) struct ExpectedTurns {
    /// `None` for a pull request that has ended.
    pub(crate) waiting: Option<ExpectedWaiting>,
    /// Each turn with its beginning, in order; it ends where the next one begins.
    pub(crate) turns: &'static [(&'static str, &'static str)],
    /// Hours of each kind of turn, up to the end or [`AS_OF`].
    pub(crate) time_by: &'static [(&'static str, f64)],
    pub(crate) pairs: Vec<ExpectedPair>,
    /// The number of review rounds.
    pub(crate) rounds: u32,
}

pub(crate) struct ExpectedWaiting {
    pub(crate) on: &'static str,
    /// Logins, or slugs of teams, each with the time since which it is waited for.
    pub(crate) who: &'static [(&'static str, &'static str)],
    pub(crate) since: &'static str,
    pub(crate) kind_since: &'static str,
    pub(crate) rule: u8,
}

/// A request for a review, and its end.
pub(crate) struct ExpectedPair {
    /// A login, or the slug of a team.
    pub(crate) party: &'static str,
    /// 1 for the first request of the party.
    pub(crate) k: u32,
    pub(crate) asked_at: &'static str,
    /// `answered`, `withdrawn`, `ended` or `open`.
    pub(crate) end: &'static str,
    pub(crate) ended_at: Option<&'static str>,
    pub(crate) response_review_at: Option<&'static str>,
    /// A comment counts, too.
    pub(crate) response_any_at: Option<&'static str>,
}

impl ExpectedPair {
    /// A request that a review answered.
    pub(crate) const fn answered(
        party: &'static str,
        k: u32,
        asked_at: &'static str,
        at: &'static str,
    ) -> Self {
        Self {
            party,
            k,
            asked_at,
            end: "answered",
            ended_at: Some(at),
            response_review_at: Some(at),
            response_any_at: Some(at),
        }
    }

    /// The first request of a party that has not answered.
    pub(crate) const fn unanswered(party: &'static str, asked_at: &'static str) -> Self {
        Self {
            party,
            k: 1,
            asked_at,
            end: "open",
            ended_at: None,
            response_review_at: None,
            response_any_at: None,
        }
    }
}

impl ExpectedTurns {
    /// Stops the writer when the literals contradict each other: the turns and the hours of their
    /// kinds each add up to the time from creation to the end.
    fn assert_consistent(&self, pr: &Pr) {
        let at = |short: &str| epoch_seconds(&full_time(short));
        let end = pr.closed_at.as_deref().map_or(at(AS_OF), epoch_seconds);
        let number = pr.number;
        assert_eq!(
            self.turns.first().map(|(_, from)| at(from)),
            Some(epoch_seconds(&pr.created_at)),
            "first turn of {number}"
        );
        let ends = self.turns.iter().skip(1).map(|(_, from)| at(from));
        for (kind, hours) in self.time_by {
            let taken = self.turns.iter().zip(ends.clone().chain([end]));
            let taken = taken.filter(|((turn, _), _)| turn == kind);
            let taken: i64 = taken.map(|((_, from), to)| to - at(from)).sum();
            assert_eq!(seconds(*hours), taken, "{kind} of {number}");
        }
        let whole: f64 = self.time_by.iter().map(|(_, hours)| hours).sum();
        let age = end - epoch_seconds(&pr.created_at);
        assert_eq!(seconds(whole), age, "time by turn of {number}");
    }

    fn fields(&self) -> [(&'static str, Value); 6] {
        let time = |short: Option<&str>| json!(short.map(full_time));
        let waiting = self.waiting.as_ref().map(|waiting| {
            let who = waiting.who.iter();
            let who = who.map(|(who, since)| json!({"who": who, "since": full_time(since)}));
            json!({
                "for": waiting.on,
                "who": who.collect::<Vec<_>>(),
                "since": full_time(waiting.since),
                "kind_since": full_time(waiting.kind_since),
                "rule": waiting.rule,
            })
        });
        let turns = self.turns.iter();
        let turns = turns.map(|(turn, from)| json!({"turn": turn, "from": full_time(from)}));
        let pairs = self.pairs.iter().map(|pair| {
            json!({
                "party": pair.party,
                "k": pair.k,
                "asked_at": full_time(pair.asked_at),
                "end": pair.end,
                "ended_at": time(pair.ended_at),
                "response_review_at": time(pair.response_review_at),
                "response_any_at": time(pair.response_any_at),
            })
        });
        let time_by = self.time_by.iter();
        let time_by = time_by.map(|(kind, hours)| ((*kind).to_owned(), json!(hours)));
        [
            ("as_of", json!(full_time(AS_OF))),
            ("waiting", json!(waiting)),
            ("turns", json!(turns.collect::<Vec<_>>())),
            ("time_by_hours", Value::Object(time_by.collect())),
            ("pairs", json!(pairs.collect::<Vec<_>>())),
            ("rounds", json!(self.rounds)),
        ]
    }
}

/// Hours of each stage.
#[derive(Default)]
pub(crate) struct Stages {
    pub(crate) coding: Option<f64>,
    pub(crate) pickup: Option<f64>,
    pub(crate) review: Option<f64>,
    pub(crate) merge_wait: Option<f64>,
    pub(crate) redraft: Option<f64>,
    pub(crate) closed: Option<f64>,
}

impl Stages {
    fn fields(&self) -> [(&'static str, Value); 6] {
        [
            ("coding_hours", json!(self.coding)),
            ("pickup_hours", json!(self.pickup)),
            ("review_hours", json!(self.review)),
            ("merge_wait_hours", json!(self.merge_wait)),
            ("redraft_hours", json!(self.redraft)),
            ("closed_hours", json!(self.closed)),
        ]
    }
}

impl Expected {
    /// Stops the writer when the literals contradict each other or the payloads: the cycle time,
    /// and the law that the stages add up to the time from creation, or from readiness where coding
    /// is unknown.
    pub(crate) fn assert_consistent(&self, pr: &Pr) {
        let number = pr.number;
        let moment = |time: &str| epoch_seconds(&full_time(time));
        let payload = |time: &Option<String>| time.as_deref().map(epoch_seconds);
        assert_eq!(self.title, pr.title, "title of {number}");
        assert_eq!(self.draft, pr.draft, "draft of {number}");
        assert_eq!(
            self.closed_at.map(moment),
            payload(&pr.closed_at),
            "end of {number}"
        );
        assert_eq!(
            self.merged_at.map(moment),
            payload(&pr.merged_at),
            "merge of {number}"
        );
        assert!(self.flags.is_sorted(), "flags of {number}");
        if let Some(turns) = &self.turns {
            turns.assert_consistent(pr);
        }

        let stages: Vec<f64> = self
            .stages
            .fields()
            .iter()
            .filter_map(|(_, v)| v.as_f64())
            .collect();
        let Some(merged) = self.merged_at.map(moment) else {
            assert!(
                stages.is_empty() && self.cycle_time_hours.is_none(),
                "{number} is not merged"
            );
            return;
        };
        let created = epoch_seconds(&pr.created_at);
        assert_eq!(
            seconds(self.cycle_time_hours.unwrap_or(0.0)),
            merged - created,
            "cycle of {number}"
        );
        let start = match self.stages.coding {
            Some(_) => created,
            None => self.ready_at.map_or(created, moment),
        };
        assert_eq!(
            seconds(stages.iter().sum()),
            merged - start,
            "law of {number}"
        );
    }

    /// The file, with its fields in the order in which a person reads them.
    pub(crate) fn to_json(&self, pr: &Pr) -> String {
        let time = |time: Option<&str>| json!(time.map(full_time));
        let fields = [
            ("repo", json!(pr.world.full_name())),
            ("number", json!(pr.number)),
            ("story", json!(self.story)),
            ("title", json!(self.title)),
            ("state", json!(self.state)),
            ("draft", json!(self.draft)),
            ("author_is_bot", json!(self.author_is_bot)),
            ("ready_at", time(self.ready_at)),
            ("first_response_at", time(self.first_response_at)),
            ("first_review_at", time(self.first_review_at)),
            ("final_approval_at", time(self.final_approval_at)),
            ("closed_at", time(self.closed_at)),
            ("merged_at", time(self.merged_at)),
            ("cycle_time_hours", json!(self.cycle_time_hours)),
            ("review_time_hours", json!(self.review_time_hours)),
        ];
        let turns = self.turns.as_ref().map(ExpectedTurns::fields);
        let turns = turns.map(|fields| format!(",\n{}", lines(&fields, "  ", "")));
        format!(
            "{{\n{}  \"stages\": {{\n{}  }},\n  \"flags\": {}{}\n}}\n",
            lines(&fields, "  ", ","),
            lines(&self.stages.fields(), "    ", ""),
            json!(self.flags),
            turns.as_deref().map_or("", str::trim_end),
        )
    }
}

/// One `"name": value` per line; `after_last` follows the last one.
fn lines(fields: &[(&str, Value)], indent: &str, after_last: &str) -> String {
    let mut text = String::new();
    for (index, (name, value)) in fields.iter().enumerate() {
        let end = if index + 1 < fields.len() {
            ","
        } else {
            after_last
        };
        let value = match value {
            Value::Array(items) if items.iter().any(Value::is_object) => list(items, indent),
            value => value.to_string(),
        };
        text.push_str(&format!("{indent}\"{name}\": {value}{end}\n"));
    }
    text
}

/// A list with one item a line.
fn list(items: &[Value], indent: &str) -> String {
    let items: Vec<_> = items
        .iter()
        .map(|item| format!("{indent}  {item}"))
        .collect();
    format!("[\n{}\n{indent}]", items.join(",\n"))
}

#[expect(clippy::cast_possible_truncation, reason = "the story is a fortnight")]
fn seconds(hours: f64) -> i64 {
    (hours * 3_600.0).round() as i64
}
