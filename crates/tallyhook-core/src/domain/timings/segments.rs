//! The stretches of a pull request's time, and the segments that they leave.

use super::intervals::{Interval, subtract};
use super::{
    Bots, History, PullRequest, PullRequestState, ReviewTimes, Stage, StageSegment, Step,
    Timestamp, seconds,
};

/// Returns the time of any pull request, each second in one stage: up to its end, or up to `now`
/// while it is open. Those of a merged one are the segments of its numbers. Empty if its times
/// cannot be right, or its end is not known.
pub fn segments(pull_request: &PullRequest, bots: &Bots, now: Timestamp) -> Vec<StageSegment> {
    let history = History::of(pull_request, bots);
    history.map_or_else(Vec::new, |history| history.segments(now))
}

impl History<'_> {
    fn segments(&self, now: Timestamp) -> Vec<StageSegment> {
        let Some(end) = self.end(now) else {
            return Vec::new();
        };
        let approval = self.approval(end);
        let times = self.review_times(Some(&approval));
        let (steps, segments) = self.steps(times, end);
        match self.is_misdated(times, Some(end), &steps) {
            true => Vec::new(),
            false => segments,
        }
    }

    /// Returns the end, which is `now` while it is open. GitHub's clock may be ahead of ours, so it
    /// is not before what is known to be over.
    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            PullRequestState::Open => {
                let known = [self.ready_at, self.first_review_at()];
                known
                    .into_iter()
                    .flatten()
                    .chain([self.created_at, now])
                    .max()
            }
            PullRequestState::Closed | PullRequestState::Merged => self.ended_at,
        }
    }

    /// Returns the stretches up to `end`, in order of time, and the segments that redraft and closed
    /// leave of them.
    pub(super) fn steps(
        &self,
        times: ReviewTimes,
        end: Timestamp,
    ) -> (Vec<Step>, Vec<StageSegment>) {
        let closed = self.clipped(&self.closed, end);
        let redraft = subtract(&self.clipped(&self.redraft, end), &closed);
        let stretches = self.stretches(times, end).into_iter().flatten();
        let mut steps: Vec<_> = stretches.collect();
        let mut segments = Vec::new();
        for step in &mut steps {
            let open = subtract(&[(step.from, step.to)], &closed);
            let parts = subtract(&open, &redraft).into_iter();
            let parts = parts.map(|(from, to)| StageSegment {
                stage: step.stage,
                from,
                to,
            });
            let first = segments.len();
            segments.extend(parts);
            step.seconds = segments[first..].iter().map(StageSegment::seconds).sum();
        }
        for (stage, because, intervals) in [
            (Stage::Redraft, "as a draft again", redraft),
            (Stage::Closed, "closed until it was opened again", closed),
        ] {
            for (from, to) in intervals {
                steps.push(Step::new(stage, from, to, because));
                segments.push(StageSegment { stage, from, to });
            }
        }
        steps.sort_by_key(|step| (step.from, step.to));
        segments.sort_by_key(|segment| segment.from);
        (steps, segments)
    }

    /// Returns the intervals clipped to creation and end; one that lasts is cut there.
    fn clipped(&self, intervals: &[Interval], end: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let ended = intervals.iter().map(|interval| {
            (
                interval.from.max(self.created_at),
                interval.to.unwrap_or(end).min(end),
            )
        });
        ended.filter(|(from, to)| from < to).collect()
    }

    /// Returns coding, pickup, review and merge wait, before redraft and closed are taken out of
    /// them.
    fn stretches(&self, times: ReviewTimes, end: Timestamp) -> [Option<Step>; 4] {
        let start = self.first_commit_at.unwrap_or(self.created_at);
        let coded = self.first_commit_at.is_some() || self.opened_as_draft;
        let Some(ready_at) = self.ready_at else {
            return [
                Some(Step::new(
                    Stage::Coding,
                    start,
                    end,
                    "until it was merged as a draft",
                )),
                None,
                None,
                None,
            ];
        };
        let coding = coded.then(|| {
            Step::new(
                Stage::Coding,
                start,
                ready_at,
                "until it was ready for review",
            )
        });
        let Some(first_review_at) = times.first_review_at else {
            // Only a merge shows that no review was waited for.
            let (stage, because) = match self.state {
                PullRequestState::Merged => (
                    Stage::MergeWait,
                    "until it was merged, without a review since it was ready",
                ),
                _ => (Stage::Pickup, "without a review since it was ready"),
            };
            let waited = Step::new(stage, ready_at, end, because);
            return [coding, None, None, Some(waited)];
        };
        let pickup = Step::new(
            Stage::Pickup,
            ready_at,
            first_review_at,
            "until its first review",
        );
        let (reviewed_at, because) = match times.final_approval_at {
            Some(at) => (at, "until its approval was complete and stayed so"),
            None => (end, "until it was merged, with no approval standing"),
        };
        let review = Step::new(Stage::Review, first_review_at, reviewed_at, because);
        let wait = times
            .final_approval_at
            .map(|at| Step::new(Stage::MergeWait, at, end, "until it was merged"));
        [coding, Some(pickup), Some(review), wait]
    }
}

impl Step {
    fn new(stage: Stage, from: Timestamp, to: Timestamp, because: &'static str) -> Self {
        Self {
            stage,
            from,
            to,
            seconds: seconds(from, to),
            because,
        }
    }
}
