//! One pull request's part of the story: what happens to it, recorded as GitHub would deliver it.

use serde_json::{Value, json};

use testkit::payloads::{
    Account, Comment, Label, Milestone, Pr, Review, ReviewComment, Team, World, epoch_seconds,
    issue_comment_event, objects, on_plain_issue, ping_event, pull_request_event, push_event,
    review_comment_event, review_event, review_thread_event, rfc3339, sha,
};

/// `03-02 09:00` or `03-02 09:00:10` is a time of 2026.
pub(crate) fn full_time(short: &str) -> String {
    let seconds = if short.len() == 11 { ":00" } else { "" };
    format!("2026-{}{seconds}Z", short.replace(' ', "T"))
}

/// A pull request and the deliveries about it so far. Every method is one thing that happens: it
/// changes the pull request and records the delivery. `at` is a time in the short form of
/// [`full_time`].
pub(crate) struct Chapter {
    name: &'static str,
    pub(crate) pr: Pr,
    deliveries: Vec<Value>,
    last_id: i64,
}

impl Chapter {
    /// Begins with `pr` as it was opened.
    pub(crate) fn opened(name: &'static str, pr: Pr) -> Self {
        let sender = pr.author.clone().unwrap_or_else(Account::ghost);
        let mut chapter = Self::before(name, pr);
        chapter.act("opened", &sender, &chapter.pr.created_at.clone(), json!({}));
        chapter
    }

    /// Begins before `pr` was opened, with the webhook's ping.
    pub(crate) fn pinged(name: &'static str, pr: Pr, by: &Account, at: &str) -> Self {
        let mut chapter = Self::before(name, pr);
        let at = full_time(at);
        chapter.record(&at, "ping", ping_event(&chapter.pr.world, by, &at));
        let created_at = chapter.pr.created_at.clone();
        let author = chapter.pr.author.clone().unwrap_or_else(Account::ghost);
        chapter.act("opened", &author, &created_at, json!({}));
        chapter
    }

    fn before(name: &'static str, pr: Pr) -> Self {
        Self {
            name,
            pr,
            deliveries: Vec::new(),
            last_id: 0,
        }
    }

    pub(crate) fn labeled(&mut self, name: &str, by: &Account, at: &str) {
        let label = Label {
            id: 6_100_000_001,
            name: name.to_owned(),
        };
        let extra = json!({"label": objects::label(&self.pr.world, &label)});
        self.pr.labels.push(label);
        self.act("labeled", by, &full_time(at), extra);
    }

    pub(crate) fn assigned(&mut self, to: &Account, by: &Account, at: &str) {
        self.pr.assignees.push(to.clone());
        let extra = json!({"assignee": objects::account(Some(to))});
        self.act("assigned", by, &full_time(at), extra);
    }

    pub(crate) fn milestoned(&mut self, milestone: &Milestone, by: &Account, at: &str) {
        self.pr.milestone = Some(milestone.clone());
        let extra = json!({"milestone": objects::milestone(&self.pr.world, milestone)});
        self.act("milestoned", by, &full_time(at), extra);
    }

    pub(crate) fn retitled(&mut self, title: &str, by: &Account, at: &str) {
        let from = std::mem::replace(&mut self.pr.title, title.to_owned());
        self.act(
            "edited",
            by,
            &full_time(at),
            json!({"changes": {"title": {"from": from}}}),
        );
    }

    pub(crate) fn review_requested(&mut self, from: &Account, by: &Account, at: &str) {
        self.pr.requested_reviewers.push(from.clone());
        let extra = json!({"requested_reviewer": objects::account(Some(from))});
        self.act("review_requested", by, &full_time(at), extra);
    }

    pub(crate) fn team_requested(&mut self, slug: &str, by: &Account, at: &str) {
        let team = Team {
            id: 9_900_001,
            slug: slug.to_owned(),
        };
        let extra = json!({"requested_team": objects::team(&self.pr.world, &team)});
        self.pr.requested_teams.push(team);
        self.act("review_requested", by, &full_time(at), extra);
    }

    pub(crate) fn request_removed(&mut self, from: &Account, by: &Account, at: &str) {
        self.pr.requested_reviewers.retain(|asked| asked != from);
        let extra = json!({"requested_reviewer": objects::account(Some(from))});
        self.act("review_request_removed", by, &full_time(at), extra);
    }

    pub(crate) fn pushed(&mut self, by: &Account, at: &str) {
        let at = full_time(at);
        let (before, after) = self.pr.push(&at);
        self.act(
            "synchronize",
            by,
            &at,
            json!({"before": before, "after": after}),
        );
    }

    pub(crate) fn converted_to_draft(&mut self, by: &Account, at: &str) {
        self.pr.draft = true;
        self.act("converted_to_draft", by, &full_time(at), json!({}));
    }

    pub(crate) fn ready_for_review(&mut self, by: &Account, at: &str) {
        self.pr.draft = false;
        self.act("ready_for_review", by, &full_time(at), json!({}));
    }

    pub(crate) fn auto_merge_enabled(&mut self, by: &Account, at: &str) {
        self.pr.auto_merge_enabled_by = Some(by.clone());
        self.act("auto_merge_enabled", by, &full_time(at), json!({}));
    }

    pub(crate) fn enqueued(&mut self, by: &Account, at: &str) {
        self.act("enqueued", by, &full_time(at), json!({}));
    }

    /// The queue gives it back, as with `CI_FAILURE`.
    pub(crate) fn dequeued(&mut self, reason: &str, by: &Account, at: &str) {
        self.act("dequeued", by, &full_time(at), json!({"reason": reason}));
    }

    pub(crate) fn closed(&mut self, by: &Account, at: &str) {
        self.pr.close(&full_time(at));
        self.act("closed", by, &full_time(at), json!({}));
    }

    pub(crate) fn reopened(&mut self, by: &Account, at: &str) {
        self.pr.reopen(&full_time(at));
        self.act("reopened", by, &full_time(at), json!({}));
    }

    pub(crate) fn merged(&mut self, by: &Account, at: &str) {
        self.pr.merge(by, &full_time(at));
        self.act("closed", by, &full_time(at), json!({}));
    }

    /// A review by a member of a team: the payload no longer shows the team's request.
    pub(crate) fn reviewed_for_team(&mut self, slug: &str, by: &Account, state: &str, at: &str) {
        self.pr.requested_teams.retain(|asked| asked.slug != slug);
        self.reviewed(Some(by), state, at);
    }

    /// A review by `by`, or by an account that is gone, of the head as it stands.
    pub(crate) fn reviewed(&mut self, by: Option<&Account>, state: &str, at: &str) -> Review {
        let id = self.new_id();
        self.reviewed_as(id, by, state, at)
    }

    /// The same for a review whose id is already known from its inline comments.
    pub(crate) fn reviewed_as(
        &mut self,
        id: i64,
        by: Option<&Account>,
        state: &str,
        at: &str,
    ) -> Review {
        let at = full_time(at);
        self.pr.touch(&at);
        self.pr
            .requested_reviewers
            .retain(|asked| Some(asked) != by);
        let review = Review {
            id,
            reviewer: by.cloned(),
            state: state.to_owned(),
            body: (state == "changes_requested").then(|| "Please have another look.".to_owned()),
            commit_id: self.pr.head_sha.clone(),
            submitted_at: at.clone(),
        };
        let sender = by.cloned().unwrap_or_else(Account::ghost);
        let payload = review_event(&self.pr, "submitted", &review, &sender);
        self.record(&at, "pull_request_review", payload);
        review
    }

    /// `by` dismisses `review`; the payload then no longer contains its former state.
    pub(crate) fn dismissed(&mut self, review: &Review, by: &Account, at: &str) {
        let at = full_time(at);
        self.pr.touch(&at);
        let mut review = review.clone();
        "dismissed".clone_into(&mut review.state);
        let payload = review_event(&self.pr, "dismissed", &review, by);
        self.record(&at, "pull_request_review", payload);
    }

    /// An inline comment, written at `written` and shown to others with its review at `at`.
    pub(crate) fn inline_comment(
        &mut self,
        review_id: i64,
        by: &Account,
        written: &str,
        at: &str,
    ) -> ReviewComment {
        let at = full_time(at);
        self.pr.touch(&at);
        self.pr.review_comments += 1;
        let comment = ReviewComment {
            id: self.new_id(),
            review_id,
            author: Some(by.clone()),
            body: "Can this fail?".to_owned(),
            commit_id: self.pr.head_sha.clone(),
            created_at: full_time(written),
            updated_at: at.clone(),
        };
        let payload = review_comment_event(&self.pr, "created", &comment, by);
        self.record(&at, "pull_request_review_comment", payload);
        comment
    }

    pub(crate) fn thread_resolved(&mut self, comments: &[ReviewComment], by: &Account, at: &str) {
        let at = full_time(at);
        self.pr.touch(&at);
        let payload = review_thread_event(&self.pr, "resolved", comments, by);
        self.record(&at, "pull_request_review_thread", payload);
    }

    /// A comment in the conversation.
    pub(crate) fn commented(&mut self, by: &Account, body: &str, at: &str) {
        let at = full_time(at);
        self.pr.touch(&at);
        self.pr.comments += 1;
        let comment = self.comment(by, body, &at);
        let payload = issue_comment_event(&self.pr, "created", &comment, by);
        self.record(&at, "issue_comment", payload);
    }

    /// A comment on issue `number`, which is no pull request and changes none.
    pub(crate) fn commented_on_issue(&mut self, number: i64, by: &Account, body: &str, at: &str) {
        let at = full_time(at);
        let issue = Pr::new(
            &self.pr.world,
            number,
            Some(by),
            "Timeouts under load",
            "",
            &at,
        );
        let comment = self.comment(by, body, &at);
        let payload = on_plain_issue(issue_comment_event(&issue, "created", &comment, by));
        self.record(&at, "issue_comment", payload);
    }

    fn comment(&mut self, by: &Account, body: &str, at: &str) -> Comment {
        Comment {
            id: self.new_id(),
            author: Some(by.clone()),
            body: body.to_owned(),
            created_at: at.to_owned(),
        }
    }

    /// The effect of merging this pull request, or of its direct push, on the default branch.
    pub(crate) fn default_branch_pushed(&mut self, by: &Account, at: &str) {
        let at = full_time(at);
        let after = sha(&format!("merge-{}", self.pr.number));
        let world: &World = &self.pr.world;
        let payload = push_event(
            world,
            &world.default_branch,
            (&self.pr.base_sha, &after),
            by,
            &at,
        );
        self.record(&at, "push", payload);
    }

    /// GitHub sends the latest delivery once more at `at`: another delivery id, the same GUID.
    pub(crate) fn redelivered(&mut self, at: &str) {
        let id = self.delivery_id();
        let mut again = self
            .deliveries
            .last()
            .cloned()
            .expect("something was delivered before");
        again["id"] = json!(id);
        again["redelivery"] = json!(true);
        again["delivered_at"] = json!(full_time(at));
        self.deliveries.push(again);
    }

    fn act(&mut self, action: &str, by: &Account, at: &str, extra: Value) {
        self.pr.touch(at);
        let payload = pull_request_event(&self.pr, action, by, extra);
        self.record(at, "pull_request", payload);
    }

    /// Appends what GitHub's deliveries API returns for a delivery; it took two seconds to arrive.
    fn record(&mut self, at: &str, event: &str, payload: Value) {
        let id = self.delivery_id();
        let guid = format!(
            "fa1ab1e0-{:04}-4000-8000-{:012}",
            self.pr.number,
            self.deliveries.len() + 1
        );
        let mut delivery = json!({
            "id": id,
            "guid": guid,
            "delivered_at": rfc3339(epoch_seconds(at) + 2),
            "redelivery": false,
            "duration": 0.05,
            "status": "OK",
            "status_code": 202,
            "event": event,
            "action": payload["action"],
            "installation_id": null,
            "repository_id": self.pr.world.repo_id,
            "throttled_at": null,
            "request": {"headers": self.headers(event, &guid)},
        });
        delivery["request"]["payload"] = payload;
        self.deliveries.push(delivery);
    }

    /// A delivery of GitHub without the signatures: `replay` computes them with a secret of its
    /// own.
    fn headers(&self, event: &str, guid: &str) -> Value {
        json!({
            "Content-Type": "application/json",
            "X-GitHub-Delivery": guid,
            "X-GitHub-Event": event,
            "X-GitHub-Hook-ID": self.pr.world.hook_id.to_string(),
        })
    }

    fn delivery_id(&self) -> i64 {
        let count = i64::try_from(self.deliveries.len()).expect("a chapter is short");
        70_000_000_000 + self.pr.number * 1_000 + count + 1
    }

    /// A new id for a review or comment.
    pub(crate) fn new_id(&mut self) -> i64 {
        self.last_id += 1;
        3_600_000_000 + self.pr.number * 1_000 + self.last_id
    }

    /// `01-name`, in the order in which the pull requests were opened.
    pub(crate) fn file_name(&self) -> String {
        format!("{:02}-{}", self.pr.number - 100, self.name)
    }

    /// The deliveries, one per line, with sorted keys.
    pub(crate) fn json_lines(&self) -> String {
        let mut text = String::new();
        for delivery in &self.deliveries {
            let mut delivery = delivery.clone();
            delivery.sort_all_objects();
            text.push_str(&format!("{delivery}\n"));
        }
        text
    }
}
