//! Turns in words.

use super::types::{Party, Turn, TurnStep, Turns};
use crate::github::types::Timestamp;

impl Turns {
    /// Returns a line for each turn from the creation on, such as `2 d 3 h for ines-acme, asked on 3
    /// March`. The last turn of an open pull request lasts until `now`.
    pub fn lines(&self, now: Timestamp) -> Vec<String> {
        let line = |step: &TurnStep| {
            let seconds = step.to.unwrap_or(now).epoch() - step.from.epoch();
            let so_far = match step.to {
                Some(_) => "",
                None => ", so far",
            };
            let span = span(seconds.max(0));
            match step.turn {
                Turn::Closed => format!("{span} {}", step.because),
                _ => format!("{span} for {}, {}{so_far}", addressee(step), step.because),
            }
        };
        self.steps.iter().map(line).collect()
    }
}

fn addressee(step: &TurnStep) -> String {
    match step.turn {
        Turn::Author | Turn::Reviewers => {
            let names = step.who.iter().map(|party| match party {
                Party::Account { login, .. } => login.clone(),
                Party::Team { slug, .. } => format!("team {slug}"),
            });
            names.collect::<Vec<_>>().join(" and ")
        }
        Turn::Nobody => "no one".to_owned(),
        Turn::Ci => "GitHub's checks".to_owned(),
        Turn::MergeQueue => "the merge queue".to_owned(),
        Turn::Maintainers => "a maintainer".to_owned(),
        Turn::Closed => String::new(),
    }
}

/// Returns a span in its two largest units.
fn span(seconds: i64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(unit, _)| seconds >= *unit);
    let first = first.unwrap_or(units.len() - 1);
    let (unit, name) = units[first];
    let whole = format!("{} {name}", seconds / unit);
    match units.get(first + 1) {
        Some((next, next_name)) if seconds % unit >= *next => {
            format!("{whole} {} {next_name}", seconds % unit / next)
        }
        _ => whole,
    }
}
