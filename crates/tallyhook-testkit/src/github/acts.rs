//! The acts of people on pull requests, and GitHub's webhooks about them.

use serde_json::{Value, json};
use tallyhook_core::github::types::Timestamp;

use super::world::{
    Commit, IdSequence, PullRequest, Reviewer, TimelineEntry, TimelineEvent, known,
};
use crate::payloads::{
    Account, Comment, Label, Review, ReviewComment, issue_comment_event, objects,
    pull_request_event, push_event, review_comment_event, review_event, sha,
};

/// Something that is done to a pull request.
#[derive(Clone, Debug)]
pub enum Act {
    ConvertToDraft,
    ReadyForReview,
    Push,
    /// A push that replaces the last commit.
    ForcePush,
    /// `approved`, `changes_requested` or `commented`; an author can only do the last of their own.
    Review(&'static str),
    /// A comment on a line, which is a review too.
    CommentOnLine,
    /// The id of a review that approves or wants changes.
    Dismiss(i64),
    Comment,
    Label(String),
    Unlabel(String),
    Retitle(String),
    Request(Reviewer),
    Unrequest(Reviewer),
    Enqueue,
    /// The reason that GitHub gives.
    Dequeue(&'static str),
    Close,
    Reopen,
    Merge,
}

/// Event names with their payloads.
type EventPayloads = Vec<(&'static str, Value)>;

impl PullRequest {
    /// Performs an act. Returns its webhooks, or none where the act is impossible.
    pub(super) fn act(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
        act: &Act,
    ) -> EventPayloads {
        let open = self.is_open();
        match act {
            Act::ConvertToDraft if open && !self.pr.draft => {
                self.pr.draft = true;
                self.happens(ids, by, at, TimelineEvent::ConvertedToDraft);
                self.event("converted_to_draft", by, json!({}))
            }
            Act::ReadyForReview if open && self.pr.draft => {
                self.pr.draft = false;
                self.happens(ids, by, at, TimelineEvent::ReadyForReview);
                self.event("ready_for_review", by, json!({}))
            }
            Act::Push if open => self.push(by, at),
            Act::ForcePush if open => self.force_push(ids, by, at),
            Act::Review(state) if *state == "commented" || self.pr.author != known(by) => {
                self.review(ids, by, at, state)
            }
            Act::CommentOnLine => self.comment_on_line(ids, by, at),
            Act::Dismiss(review) => self.dismiss(ids, by, at, *review),
            Act::Comment => self.comment(ids, by, at),
            Act::Label(name) if !self.pr.labels.iter().any(|label| label.name == *name) => {
                let label = Label {
                    id: ids.next(),
                    name: name.clone(),
                };
                self.pr.labels.push(label.clone());
                self.happens(ids, by, at, TimelineEvent::Labeled(label.clone()));
                self.event(
                    "labeled",
                    by,
                    json!({"label": objects::label(&self.pr.world, &label)}),
                )
            }
            Act::Unlabel(name) => self.unlabel(ids, by, at, name),
            Act::Retitle(to) => {
                let from = std::mem::replace(&mut self.pr.title, to.clone());
                self.happens(
                    ids,
                    by,
                    at,
                    TimelineEvent::Renamed {
                        from: from.clone(),
                        to: to.clone(),
                    },
                );
                self.event("edited", by, json!({"changes": {"title": {"from": from}}}))
            }
            Act::Request(reviewer) if open => self.request(ids, by, at, reviewer),
            Act::Unrequest(reviewer) if self.forget_request(reviewer) => {
                self.happens(ids, by, at, TimelineEvent::RequestRemoved(reviewer.clone()));
                self.event("review_request_removed", by, self.requested(reviewer))
            }
            Act::Enqueue if open && !self.pr.draft && !self.queued => {
                self.queued = true;
                self.happens(ids, by, at, TimelineEvent::Enqueued);
                self.event("enqueued", by, json!({}))
            }
            Act::Dequeue(reason) if self.queued => self.dequeue(ids, by, at, reason),
            Act::Close if open => self.end(ids, by, at, false),
            Act::Merge if open && !self.pr.draft => self.end(ids, by, at, true),
            Act::Reopen if !open && self.pr.merged_at.is_none() => {
                self.pr.reopen(&at.to_string());
                self.happens(ids, by, at, TimelineEvent::Reopened);
                self.event("reopened", by, json!({}))
            }
            _ => Vec::new(),
        }
    }

    /// Appends an entry to the timeline, and moves `updated_at`.
    fn happens(&mut self, ids: &mut IdSequence, by: &Account, at: Timestamp, what: TimelineEvent) {
        self.pr.touch(&at.to_string());
        self.timeline.push(TimelineEntry {
            id: ids.next(),
            at,
            actor: known(by),
            what,
        });
    }

    fn event(&self, action: &str, by: &Account, extra: Value) -> EventPayloads {
        vec![(
            "pull_request",
            pull_request_event(&self.pr, action, by, extra),
        )]
    }

    fn push(&mut self, by: &Account, at: Timestamp) -> EventPayloads {
        let before = self.pr.head_sha.clone();
        let after = self.next_head();
        self.commits.push(Commit {
            sha: after.clone(),
            message: "Change the server".to_owned(),
            author: known(by),
            authored_at: at,
            committed_at: at,
        });
        self.pr.commits += 1;
        self.pr.additions += 5;
        self.pr.touch(&at.to_string());
        self.pushed(by, at, &before, &after)
    }

    fn force_push(&mut self, ids: &mut IdSequence, by: &Account, at: Timestamp) -> EventPayloads {
        let before = self.pr.head_sha.clone();
        let after = self.next_head();
        if let Some(last) = self.commits.last_mut() {
            (last.sha, last.committed_at) = (after.clone(), at);
        }
        self.happens(
            ids,
            by,
            at,
            TimelineEvent::ForcePushed {
                before: before.clone(),
                after: after.clone(),
            },
        );
        self.pushed(by, at, &before, &after)
    }

    fn pushed(&self, by: &Account, at: Timestamp, before: &str, after: &str) -> EventPayloads {
        let push = push_event(
            &self.pr.world,
            &self.pr.head_ref,
            (before, after),
            by,
            &at.to_string(),
        );
        let mut events = self.event("synchronize", by, json!({"before": before, "after": after}));
        events.insert(0, ("push", push));
        events
    }

    /// Returns `at`, or now and then a second later, as GitHub's `updated_at` is.
    fn late(at: Timestamp) -> Timestamp {
        Timestamp::clamped(at.epoch() + i64::from(at.epoch() % 13 == 0))
    }

    fn review(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
        state: &str,
    ) -> EventPayloads {
        let review = Review {
            id: ids.next_review(),
            reviewer: known(by),
            state: state.to_owned(),
            body: (state != "approved").then(|| "Please look again.".to_owned()),
            commit_id: self.pr.head_sha.clone(),
            submitted_at: at.to_string(),
        };
        // A review ends the request for it, without a webhook.
        self.forget_request(&Reviewer::Account(by.clone()));
        self.happens(ids, by, at, TimelineEvent::Reviewed(review.id));
        self.pr.touch(&Self::late(at).to_string());
        let payload = review_event(&self.pr, "submitted", &review, by);
        self.reviews.push(review);
        vec![("pull_request_review", payload)]
    }

    fn comment_on_line(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
    ) -> EventPayloads {
        let mut events = self.review(ids, by, at, "commented");
        let comment = ReviewComment {
            id: ids.next(),
            review_id: self.reviews.last().unwrap().id,
            author: known(by),
            body: "Why so?".to_owned(),
            commit_id: self.pr.head_sha.clone(),
            created_at: at.to_string(),
            updated_at: at.to_string(),
        };
        self.pr.review_comments += 1;
        events.push((
            "pull_request_review_comment",
            review_comment_event(&self.pr, "created", &comment, by),
        ));
        self.inline.push(comment);
        events
    }

    fn dismiss(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
        id: i64,
    ) -> EventPayloads {
        let opinion = |review: &&mut Review| {
            review.id == id && ["approved", "changes_requested"].contains(&&*review.state)
        };
        let Some(review) = self.reviews.iter_mut().find(opinion) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut review.state, "dismissed".to_owned());
        let review = review.clone();
        self.happens(ids, by, at, TimelineEvent::Dismissed(id, before));
        vec![(
            "pull_request_review",
            review_event(&self.pr, "dismissed", &review, by),
        )]
    }

    fn comment(&mut self, ids: &mut IdSequence, by: &Account, at: Timestamp) -> EventPayloads {
        let body = "Thank you.".to_owned();
        let comment = Comment {
            id: ids.next(),
            author: known(by),
            body,
            created_at: at.to_string(),
        };
        self.pr.comments += 1;
        self.happens(ids, by, at, TimelineEvent::Commented(comment.id));
        let payload = issue_comment_event(&self.pr, "created", &comment, by);
        self.comments.push(comment);
        vec![("issue_comment", payload)]
    }

    fn unlabel(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
        name: &str,
    ) -> EventPayloads {
        let Some(place) = self.pr.labels.iter().position(|label| label.name == name) else {
            return Vec::new();
        };
        let label = self.pr.labels.remove(place);
        self.happens(ids, by, at, TimelineEvent::Unlabeled(label.clone()));
        self.event(
            "unlabeled",
            by,
            json!({"label": objects::label(&self.pr.world, &label)}),
        )
    }

    fn request(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
        reviewer: &Reviewer,
    ) -> EventPayloads {
        // A repeated request replaces the first.
        self.forget_request(reviewer);
        match reviewer {
            Reviewer::Account(account) => self.pr.requested_reviewers.push(account.clone()),
            Reviewer::Team(team) => self.pr.requested_teams.push(team.clone()),
        }
        self.happens(ids, by, at, TimelineEvent::Requested(reviewer.clone()));
        self.event("review_requested", by, self.requested(reviewer))
    }

    fn requested(&self, reviewer: &Reviewer) -> Value {
        match reviewer {
            Reviewer::Account(account) => {
                json!({"requested_reviewer": objects::account(Some(account))})
            }
            Reviewer::Team(team) => json!({"requested_team": objects::team(&self.pr.world, team)}),
        }
    }

    /// Removes a review request. Returns true if there was one.
    fn forget_request(&mut self, reviewer: &Reviewer) -> bool {
        let before = self.pr.requested_reviewers.len() + self.pr.requested_teams.len();
        match reviewer {
            Reviewer::Account(account) => self
                .pr
                .requested_reviewers
                .retain(|asked| asked.id != account.id),
            Reviewer::Team(team) => self.pr.requested_teams.retain(|asked| asked.id != team.id),
        }
        before > self.pr.requested_reviewers.len() + self.pr.requested_teams.len()
    }

    fn dequeue(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
        reason: &'static str,
    ) -> EventPayloads {
        self.queued = false;
        self.happens(ids, by, at, TimelineEvent::Dequeued(reason));
        self.event("dequeued", by, json!({"reason": reason}))
    }

    /// Closes the pull request, merged or not. `closed_at` and `updated_at` can be a second behind
    /// the merge.
    fn end(
        &mut self,
        ids: &mut IdSequence,
        by: &Account,
        at: Timestamp,
        merged: bool,
    ) -> EventPayloads {
        let mut events = match self.queued {
            true if merged => self.dequeue(ids, by, at, "MERGE"),
            true => self.dequeue(ids, by, at, "MANUAL"),
            false => Vec::new(),
        };
        let closed_at = if merged { Self::late(at) } else { at };
        if merged {
            self.happens(ids, by, at, TimelineEvent::Merged);
            self.pr.merge(by, &at.to_string());
            self.pr.merged_by = known(by);
            self.pr.merge_commit_sha = Some(sha(&format!("merge/{}", self.pr.head_sha)));
        }
        self.happens(ids, by, closed_at, TimelineEvent::Closed);
        self.pr.close(&closed_at.to_string());
        self.pr.touch(&Self::late(closed_at).to_string());
        events.extend(self.event("closed", by, json!({})));
        events
    }
}
