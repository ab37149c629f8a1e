//! States that are toggled on and off, and the time that they cover.

use std::collections::BTreeSet;

use crate::github::types::Timestamp;

/// A stretch during which something was on; `to` is `None` while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) struct Interval {
    pub(in crate::domain) from: Timestamp,
    pub(in crate::domain) to: Option<Timestamp>,
}

/// The known history of a state that is on or off: the times at which it was toggled, and those at
/// which it was observed.
pub(super) struct ToggleHistory {
    pub(super) starts_on: bool,
    pub(super) on: BTreeSet<Timestamp>,
    pub(super) off: BTreeSet<Timestamp>,
    /// By time. An observation reveals a missed toggle, unless a toggle is known within the same
    /// second.
    pub(super) observed: Vec<(Timestamp, bool)>,
}

impl ToggleHistory {
    /// Returns the stretches in which it was on, by time, from `start` on.
    pub(super) fn intervals(&self, start: Timestamp) -> Vec<Interval> {
        let mut intervals = Vec::new();
        // Most are never on, and their times need not be put in order.
        if !self.starts_on && self.on.is_empty() && !self.observed.iter().any(|(_, on)| *on) {
            return intervals;
        }
        let mut since = self.starts_on.then_some(start);
        for (at, turns) in self.turns() {
            for on in turns {
                match (since, on) {
                    (None, true) => since = Some(at),
                    (Some(from), false) => {
                        intervals.push(Interval { from, to: Some(at) });
                        since = None;
                    }
                    (Some(_), true) | (None, false) => {}
                }
            }
        }
        intervals.extend(since.map(|from| Interval { from, to: None }));
        intervals
    }

    /// Returns the toggles at each time, in order. Of on and off within one second the observed one
    /// is the last; without an observation they are in the order that changes the state, so that
    /// closing and reopening at once shows as both.
    fn turns(&self) -> Vec<(Timestamp, Vec<bool>)> {
        let mut is_on = self.starts_on;
        let times: BTreeSet<_> = self
            .on
            .iter()
            .chain(&self.off)
            .copied()
            .chain(self.observed.iter().map(|(at, _)| *at))
            .collect();
        let mut observed = self.observed.iter().peekable();
        let mut turns = Vec::with_capacity(times.len());
        for at in times {
            let seen = observed
                .next_if(|(seen_at, _)| *seen_at == at)
                .map(|(_, on)| *on);
            let turn = match (self.on.contains(&at), self.off.contains(&at)) {
                (true, true) if seen == Some(!is_on) => vec![!is_on],
                (true, true) => vec![!is_on, is_on],
                (true, false) => vec![true],
                (false, true) => vec![false],
                (false, false) => seen.into_iter().collect(),
            };
            is_on = turn.last().copied().unwrap_or(is_on);
            turns.push((at, turn));
        }
        turns
    }
}

/// Returns the parts of `intervals` outside of `others`; both ordered by time and free of overlap
/// within themselves.
pub(super) fn subtract(
    intervals: &[(Timestamp, Timestamp)],
    others: &[(Timestamp, Timestamp)],
) -> Vec<(Timestamp, Timestamp)> {
    let mut rest = Vec::new();
    for (from, to) in intervals {
        let mut from = *from;
        for (other_from, other_to) in others {
            if *other_to <= from || *other_from >= *to {
                continue;
            }
            if *other_from > from {
                rest.push((from, *other_from));
            }
            from = from.max(*other_to);
        }
        if from < *to {
            rest.push((from, *to));
        }
    }
    rest
}
