//! States that are switched on and off, and the time they cover.

use std::collections::BTreeSet;

use crate::github::types::Timestamp;

/// A stretch during which something was on; `to` is `None` while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) from: Timestamp,
    pub(super) to: Option<Timestamp>,
}

/// What is known of a state that is on or off: moments at which it was switched, and moments at which it was seen.
pub(super) struct Switch {
    pub(super) starts_on: bool,
    pub(super) on: BTreeSet<Timestamp>,
    pub(super) off: BTreeSet<Timestamp>,
    /// By time. What was seen tells of a switch that was missed, unless a switch is known at that very second.
    pub(super) observed: Vec<(Timestamp, bool)>,
}

impl Switch {
    /// The stretches in which it was on, by time, from `start` on.
    pub(super) fn intervals(&self, start: Timestamp) -> Vec<Interval> {
        let mut intervals = Vec::new();
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

    /// What happened at each moment, in order. Of on and off within one second the last is what was seen then, else
    /// they happened in the order that changes something: whoever closes and reopens at once finds both in the history.
    fn turns(&self) -> Vec<(Timestamp, Vec<bool>)> {
        let mut is_on = self.starts_on;
        let moments: BTreeSet<_> = self
            .on
            .iter()
            .chain(&self.off)
            .copied()
            .chain(self.observed.iter().map(|(at, _)| *at))
            .collect();
        let mut observed = self.observed.iter().peekable();
        let mut turns = Vec::with_capacity(moments.len());
        for at in moments {
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

/// How many seconds of `stretch` the intervals cover; they must not overlap each other.
pub(super) fn overlap(
    stretch: (Timestamp, Timestamp),
    intervals: &[(Timestamp, Timestamp)],
) -> i64 {
    let shared = intervals
        .iter()
        .map(|(from, to)| to.min(&stretch.1).epoch() - from.max(&stretch.0).epoch());
    shared.filter(|seconds| *seconds > 0).sum()
}

/// What of `intervals` lies outside of `others`; both ordered by time and free of overlap within themselves.
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
