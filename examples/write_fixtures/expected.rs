//! What Tallyhook must answer for one pull request, as the story states it.

use serde_json::{Value, json};

use crate::chapter::full_time;
use crate::payloads::{Pr, epoch_seconds};

/// The answer for one pull request; times in the story's short form, everything unsaid is `null` or empty.
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
    /// Stops the writer when the literals contradict each other or the payloads: the cycle time, and the law
    /// that the stages add up to the time from creation, or from readiness where coding is unknown.
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
        format!(
            "{{\n{}  \"stages\": {{\n{}  }},\n  \"flags\": {}\n}}\n",
            lines(&fields, "  ", ","),
            lines(&self.stages.fields(), "    ", ""),
            json!(self.flags),
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
        text.push_str(&format!("{indent}\"{name}\": {value}{end}\n"));
    }
    text
}

#[expect(clippy::cast_possible_truncation, reason = "the story is a fortnight")]
fn seconds(hours: f64) -> i64 {
    (hours * 3_600.0).round() as i64
}
