//! Monday 9 March to Thursday 19 March 2026: the pull requests opened after the first week, 115 to
//! 125.

use crate::chapter::Chapter;
use crate::expected::{Expected, ExpectedTurns, ExpectedWaiting, Stages};
use crate::team::Team;

type ExpectedChapter = (Chapter, Expected);

pub(crate) fn chapters(team: &Team) -> Vec<ExpectedChapter> {
    vec![
        ghost_reviewer(team),
        reviewed_in_draft(team),
        changes_still_requested(team),
        merged_as_draft(team),
        merge_queue(team),
        objection_dismissed(team),
        never_approved(team),
        closed_while_draft(team),
        ghost_author(team),
        review_at_the_merge(team),
        waiting_for_a_human(team),
    ]
}

fn ghost_reviewer(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        115,
        &team.ines,
        "Rotate the signing keys",
        "rotate-keys",
        "03-09 09:00",
    );
    let mut chapter = Chapter::opened("ghost-reviewer", pr);
    chapter.reviewed(None, "approved", "03-09 13:00");
    chapter.merged(&team.ines, "03-09 14:00");
    let expected = Expected {
        story: "A contractor approves on the last day; the account is gone when GitHub delivers the review, so its user \
                is null. It is a review by somebody else all the same.",
        title: "Rotate the signing keys",
        state: "merged",
        ready_at: Some("03-09 09:00"),
        first_response_at: Some("03-09 13:00"),
        first_review_at: Some("03-09 13:00"),
        final_approval_at: Some("03-09 13:00"),
        closed_at: Some("03-09 14:00"),
        merged_at: Some("03-09 14:00"),
        cycle_time_hours: Some(5.0),
        review_time_hours: Some(4.0),
        stages: Stages {
            pickup: Some(4.0),
            review: Some(0.0),
            merge_wait: Some(1.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn reviewed_in_draft(team: &Team) -> ExpectedChapter {
    let pr = team.draft(
        116,
        &team.tomas,
        "Describe the error codes",
        "error-codes",
        "03-09 10:00",
    );
    let mut chapter = Chapter::opened("reviewed-in-draft", pr);
    chapter.reviewed(Some(&team.yuki), "approved", "03-09 11:00");
    chapter.ready_for_review(&team.tomas, "03-09 14:00");
    chapter.merged(&team.tomas, "03-09 15:00");
    let expected = Expected {
        story: "Yuki approves the draft already; Tomas marks it ready in the afternoon and merges it. No review came \
                after it was ready, but it was not merged unseen either.",
        title: "Describe the error codes",
        state: "merged",
        ready_at: Some("03-09 14:00"),
        closed_at: Some("03-09 15:00"),
        merged_at: Some("03-09 15:00"),
        cycle_time_hours: Some(5.0),
        stages: Stages {
            coding: Some(4.0),
            merge_wait: Some(1.0),
            ..Stages::default()
        },
        flags: &["reviewed_in_draft"],
        ..Expected::default()
    };
    (chapter, expected)
}

fn changes_still_requested(team: &Team) -> ExpectedChapter {
    let pr = team.pr(117, &team.yuki, "Answer in pages", "pages", "03-09 15:00");
    let mut chapter = Chapter::opened("changes-still-requested", pr);
    chapter.reviewed(Some(&team.ines), "changes_requested", "03-10 09:00");
    chapter.reviewed(Some(&team.tomas), "approved", "03-10 10:00");
    chapter.merged(&team.yuki, "03-10 11:00");
    let expected = Expected {
        story: "Ines wants changes, Tomas approves, and Yuki merges over her objection. The approval was never \
                complete, so everything after the first review is review.",
        title: "Answer in pages",
        state: "merged",
        ready_at: Some("03-09 15:00"),
        first_response_at: Some("03-10 09:00"),
        first_review_at: Some("03-10 09:00"),
        closed_at: Some("03-10 11:00"),
        merged_at: Some("03-10 11:00"),
        cycle_time_hours: Some(20.0),
        review_time_hours: Some(18.0),
        stages: Stages {
            pickup: Some(18.0),
            review: Some(2.0),
            ..Stages::default()
        },
        flags: &["merged_with_changes_requested"],
        ..Expected::default()
    };
    (chapter, expected)
}

fn merged_as_draft(team: &Team) -> ExpectedChapter {
    let pr = team.draft(
        118,
        &team.ines,
        "Raise the pool size",
        "pool-size",
        "03-10 09:00",
    );
    let mut chapter = Chapter::opened("merged-as-draft", pr);
    chapter.merged(&team.mira, "03-10 13:00");
    let expected = Expected {
        story: "Under load Mira pushes the branch of Ines' draft straight to main, and GitHub marks it merged. It was \
                never ready: all of it is coding.",
        title: "Raise the pool size",
        state: "merged",
        draft: true,
        closed_at: Some("03-10 13:00"),
        merged_at: Some("03-10 13:00"),
        cycle_time_hours: Some(4.0),
        stages: Stages {
            coding: Some(4.0),
            ..Stages::default()
        },
        flags: &["merged_as_draft", "merged_without_review"],
        ..Expected::default()
    };
    (chapter, expected)
}

fn merge_queue(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        119,
        &team.tomas,
        "Measure the queue's age",
        "queue-age",
        "03-10 13:00",
    );
    let mut chapter = Chapter::opened("merge-queue", pr);
    chapter.reviewed(Some(&team.mira), "approved", "03-10 14:00");
    chapter.enqueued(&team.tomas, "03-10 14:10");
    chapter.merged(&team.queue_bot, "03-10 15:00");
    let expected = Expected {
        story: "Tomas hands an approved change to the merge queue, whose bot merges it fifty minutes later. The wait in \
                the queue is part of the wait for the merge.",
        title: "Measure the queue's age",
        state: "merged",
        ready_at: Some("03-10 13:00"),
        first_response_at: Some("03-10 14:00"),
        first_review_at: Some("03-10 14:00"),
        final_approval_at: Some("03-10 14:00"),
        closed_at: Some("03-10 15:00"),
        merged_at: Some("03-10 15:00"),
        cycle_time_hours: Some(2.0),
        review_time_hours: Some(1.0),
        stages: Stages {
            pickup: Some(1.0),
            review: Some(0.0),
            merge_wait: Some(1.0),
            ..Stages::default()
        },
        turns: Some(ExpectedTurns {
            turns: &[
                ("nobody", "03-10 13:00"),
                ("author", "03-10 14:00"),
                ("merge_queue", "03-10 14:10"),
            ],
            time_by: &[
                ("author", 10.0 / 60.0),
                ("merge_queue", 50.0 / 60.0),
                ("nobody", 1.0),
            ],
            rounds: 1,
            ..ExpectedTurns::default()
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn objection_dismissed(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        120,
        &team.mira,
        "Use one clock everywhere",
        "one-clock",
        "03-11 09:00",
    );
    let mut chapter = Chapter::opened("objection-dismissed", pr);
    chapter.reviewed(Some(&team.tomas), "approved", "03-11 10:00");
    let objection = chapter.reviewed(Some(&team.yuki), "changes_requested", "03-11 11:00");
    chapter.dismissed(&objection, &team.tomas, "03-11 14:00");
    chapter.merged(&team.mira, "03-11 15:00");
    let expected = Expected {
        story: "Tomas approves, Yuki objects an hour later, and Tomas dismisses the objection after a talk. From that \
                moment on the approval is complete again.",
        title: "Use one clock everywhere",
        state: "merged",
        ready_at: Some("03-11 09:00"),
        first_response_at: Some("03-11 10:00"),
        first_review_at: Some("03-11 10:00"),
        final_approval_at: Some("03-11 14:00"),
        closed_at: Some("03-11 15:00"),
        merged_at: Some("03-11 15:00"),
        cycle_time_hours: Some(6.0),
        review_time_hours: Some(1.0),
        stages: Stages {
            pickup: Some(1.0),
            review: Some(4.0),
            merge_wait: Some(1.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn never_approved(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        121,
        &team.tomas,
        "Name the worker threads",
        "thread-names",
        "03-11 13:00",
    );
    let mut chapter = Chapter::opened("never-approved", pr);
    chapter.commented(&team.yuki, "That will make traces readable.", "03-11 14:00");
    chapter.reviewed(Some(&team.ines), "commented", "03-11 16:00");
    chapter.merged(&team.tomas, "03-12 09:00");
    let expected = Expected {
        story: "Yuki comments after one hour, Ines reviews after three without approving, and Tomas merges the next \
                morning. The comment is the first response, the review comes later.",
        title: "Name the worker threads",
        state: "merged",
        ready_at: Some("03-11 13:00"),
        first_response_at: Some("03-11 14:00"),
        first_review_at: Some("03-11 16:00"),
        closed_at: Some("03-12 09:00"),
        merged_at: Some("03-12 09:00"),
        cycle_time_hours: Some(20.0),
        review_time_hours: Some(3.0),
        stages: Stages {
            pickup: Some(3.0),
            review: Some(17.0),
            ..Stages::default()
        },
        flags: &["merged_without_approval"],
        ..Expected::default()
    };
    (chapter, expected)
}

fn closed_while_draft(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        122,
        &team.ines,
        "Compress the archive",
        "compress",
        "03-12 09:00",
    );
    let mut chapter = Chapter::opened("closed-while-draft", pr);
    chapter.converted_to_draft(&team.ines, "03-12 10:00");
    chapter.closed(&team.ines, "03-12 12:00");
    chapter.reopened(&team.ines, "03-12 14:00");
    chapter.ready_for_review(&team.ines, "03-12 15:00");
    chapter.reviewed(Some(&team.mira), "approved", "03-12 16:00");
    chapter.merged(&team.ines, "03-12 17:00");
    let expected = Expected {
        story: "Ines takes it back to draft for five hours and closes it for two of them. An hour that is both counts as \
                closed: three hours of redraft, two closed, and two of pickup remain.",
        title: "Compress the archive",
        state: "merged",
        ready_at: Some("03-12 09:00"),
        first_response_at: Some("03-12 16:00"),
        first_review_at: Some("03-12 16:00"),
        final_approval_at: Some("03-12 16:00"),
        closed_at: Some("03-12 17:00"),
        merged_at: Some("03-12 17:00"),
        cycle_time_hours: Some(8.0),
        review_time_hours: Some(7.0),
        stages: Stages {
            pickup: Some(2.0),
            review: Some(0.0),
            merge_wait: Some(1.0),
            redraft: Some(3.0),
            closed: Some(2.0),
            ..Stages::default()
        },
        flags: &["reopened"],
        ..Expected::default()
    };
    (chapter, expected)
}

fn ghost_author(team: &Team) -> ExpectedChapter {
    let mut pr = team.pr(
        123,
        &team.ghost,
        "Fix a typo in the guide",
        "guide-typo",
        "03-16 09:00",
    );
    pr.author = None;
    let mut chapter = Chapter::opened("ghost-author", pr);
    chapter.reviewed(None, "commented", "03-16 10:00");
    chapter.reviewed(Some(&team.ines), "approved", "03-17 09:00");
    chapter.merged(&team.ines, "03-17 10:00");
    let expected = Expected {
        story: "The author's account is already gone in the first delivery. A review by a deleted account is then taken \
                for the author's own; the first that counts is by Ines, a day later.",
        title: "Fix a typo in the guide",
        state: "merged",
        ready_at: Some("03-16 09:00"),
        first_response_at: Some("03-17 09:00"),
        first_review_at: Some("03-17 09:00"),
        final_approval_at: Some("03-17 09:00"),
        closed_at: Some("03-17 10:00"),
        merged_at: Some("03-17 10:00"),
        cycle_time_hours: Some(25.0),
        review_time_hours: Some(24.0),
        stages: Stages {
            pickup: Some(24.0),
            review: Some(0.0),
            merge_wait: Some(1.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn review_at_the_merge(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        124,
        &team.mira,
        "Remove the unused route",
        "unused-route",
        "03-16 10:00",
    );
    let mut chapter = Chapter::opened("review-at-the-merge", pr);
    chapter.reviewed(Some(&team.tomas), "approved", "03-16 12:00");
    chapter.merged(&team.tomas, "03-16 12:00");
    chapter.reviewed(Some(&team.ines), "changes_requested", "03-16 12:30");
    let expected = Expected {
        story: "Tomas approves and merges within one second, which counts and leaves stages of zero. Ines finds something \
                half an hour after the merge, which changes nothing.",
        title: "Remove the unused route",
        state: "merged",
        ready_at: Some("03-16 10:00"),
        first_response_at: Some("03-16 12:00"),
        first_review_at: Some("03-16 12:00"),
        final_approval_at: Some("03-16 12:00"),
        closed_at: Some("03-16 12:00"),
        merged_at: Some("03-16 12:00"),
        cycle_time_hours: Some(2.0),
        review_time_hours: Some(2.0),
        stages: Stages {
            pickup: Some(2.0),
            review: Some(0.0),
            merge_wait: Some(0.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn waiting_for_a_human(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        125,
        &team.yuki,
        "Warn before a token expires",
        "token-expiry",
        "03-19 09:00",
    );
    let mut chapter = Chapter::opened("waiting-for-a-human", pr);
    chapter.commented(&team.lint_bot, "Looks good to me.", "03-19 09:00:10");
    chapter.commented(&team.yuki, "Is anybody there?", "03-20 09:00");
    let expected = Expected {
        story: "A bot has answered and the author has asked again, but at the end of the fortnight no other person has \
                looked at it.",
        title: "Warn before a token expires",
        state: "open",
        ready_at: Some("03-19 09:00"),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "nobody",
                who: &[],
                since: "03-19 09:00",
                kind_since: "03-19 09:00",
                rule: 9,
            }),
            turns: &[("nobody", "03-19 09:00")],
            time_by: &[("nobody", 27.0)],
            ..ExpectedTurns::default()
        }),
        ..Expected::default()
    };
    (chapter, expected)
}
