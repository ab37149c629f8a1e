//! Monday 2 March to Friday 6 March 2026: the pull requests opened in the first week, 101 to 114.

use crate::chapter::Chapter;
use crate::expected::{Expected, ExpectedPair, ExpectedTurns, ExpectedWaiting, Stages};
use crate::team::Team;
use testkit::payloads::HeadRepo;

type ExpectedChapter = (Chapter, Expected);

pub(crate) fn chapters(team: &Team) -> Vec<ExpectedChapter> {
    vec![
        quick_review(team),
        draft_then_ready(team),
        merged_without_review(team),
        closed_unmerged(team),
        open_with_review(team),
        draft_never_ready(team),
        changes_then_approval(team),
        bot_first(team),
        back_to_draft(team),
        closed_and_reopened(team),
        bot_author(team),
        push_after_approval(team),
        dismissed_approval(team),
        fork_deleted(team),
    ]
}

fn quick_review(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        101,
        &team.tomas,
        "Answer 429 when the rate limit is reached",
        "rate-limit",
        "03-02 09:00",
    );
    let mut chapter = Chapter::pinged("quick-review", pr, &team.mira, "03-02 08:30");
    chapter.labeled("api", &team.tomas, "03-02 09:01");
    chapter.reviewed(Some(&team.mira), "approved", "03-02 11:00");
    chapter.merged(&team.tomas, "03-02 11:30");
    chapter.default_branch_pushed(&team.tomas, "03-02 11:30");
    let expected = Expected {
        story: "Mira sets up the webhook. Tomas opens a small change at nine; she approves it two hours later and he \
                merges it within half an hour.",
        title: "Answer 429 when the rate limit is reached",
        state: "merged",
        ready_at: Some("03-02 09:00"),
        first_response_at: Some("03-02 11:00"),
        first_review_at: Some("03-02 11:00"),
        final_approval_at: Some("03-02 11:00"),
        closed_at: Some("03-02 11:30"),
        merged_at: Some("03-02 11:30"),
        cycle_time_hours: Some(2.5),
        review_time_hours: Some(2.0),
        stages: Stages {
            pickup: Some(2.0),
            review: Some(0.0),
            merge_wait: Some(0.5),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn draft_then_ready(team: &Team) -> ExpectedChapter {
    let pr = team.draft(
        102,
        &team.ines,
        "Read the configuration from one file",
        "one-config",
        "03-02 10:00",
    );
    let mut chapter = Chapter::opened("draft-then-ready", pr);
    chapter.ready_for_review(&team.ines, "03-04 10:00");
    chapter.reviewed(Some(&team.tomas), "approved", "03-04 12:00");
    chapter.merged(&team.ines, "03-04 15:00");
    let expected = Expected {
        story: "Ines opens a draft on Monday and works on it until Wednesday, when she asks for a review and gets it \
                after two hours. The two days of drafting are coding; the review time still counts from creation.",
        title: "Read the configuration from one file",
        state: "merged",
        ready_at: Some("03-04 10:00"),
        first_response_at: Some("03-04 12:00"),
        first_review_at: Some("03-04 12:00"),
        final_approval_at: Some("03-04 12:00"),
        closed_at: Some("03-04 15:00"),
        merged_at: Some("03-04 15:00"),
        cycle_time_hours: Some(53.0),
        review_time_hours: Some(50.0),
        stages: Stages {
            coding: Some(48.0),
            pickup: Some(2.0),
            review: Some(0.0),
            merge_wait: Some(3.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn merged_without_review(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        103,
        &team.ines,
        "Restore the health check",
        "health-check",
        "03-02 11:00",
    );
    let mut chapter = Chapter::opened("merged-without-review", pr);
    chapter.commented(
        &team.tomas,
        "Confirmed, the load balancer sees it again.",
        "03-02 11:15",
    );
    chapter.redelivered("03-02 11:25");
    chapter.merged(&team.ines, "03-02 11:45");
    let expected = Expected {
        story: "A hotfix: Tomas says in a comment, which GitHub delivers twice, that it works; nobody reviews it, and Ines \
                merges it after three quarters of an hour. The comment is a response but no review.",
        title: "Restore the health check",
        state: "merged",
        ready_at: Some("03-02 11:00"),
        first_response_at: Some("03-02 11:15"),
        closed_at: Some("03-02 11:45"),
        merged_at: Some("03-02 11:45"),
        cycle_time_hours: Some(0.75),
        stages: Stages {
            merge_wait: Some(0.75),
            ..Stages::default()
        },
        flags: &["merged_without_review"],
        ..Expected::default()
    };
    (chapter, expected)
}

fn closed_unmerged(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        104,
        &team.yuki,
        "Try a second connection pool",
        "second-pool",
        "03-02 13:00",
    );
    let mut chapter = Chapter::opened("closed-unmerged", pr);
    chapter.reviewed(Some(&team.mira), "commented", "03-02 15:00");
    chapter.closed(&team.yuki, "03-03 09:00");
    let expected = Expected {
        story: "Yuki tries something, Mira has doubts, and on the next morning Yuki closes it. It has a review time but \
                never a cycle time.",
        title: "Try a second connection pool",
        state: "closed",
        ready_at: Some("03-02 13:00"),
        first_response_at: Some("03-02 15:00"),
        first_review_at: Some("03-02 15:00"),
        closed_at: Some("03-03 09:00"),
        review_time_hours: Some(2.0),
        ..Expected::default()
    };
    (chapter, expected)
}

fn open_with_review(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        105,
        &team.mira,
        "Split the router by resource",
        "split-router",
        "03-03 10:00",
    );
    let mut chapter = Chapter::opened("open-with-review", pr);
    chapter.team_requested("backend", &team.mira, "03-03 10:06");
    chapter.reviewed(Some(&team.mira), "commented", "03-03 11:00");
    chapter.reviewed(Some(&team.tomas), "commented", "03-03 14:00");
    chapter.milestoned(&team.milestone(), &team.mira, "03-03 14:10");
    chapter.commented_on_issue(
        98,
        &team.tomas,
        "Splitting the router will help here.",
        "03-03 14:20",
    );
    let expected = Expected {
        story: "Mira asks the whole team and annotates her own change as a review, which does not count. Tomas comments \
                after four hours and mentions it on an issue, which is no pull request. It stays open.",
        title: "Split the router by resource",
        state: "open",
        ready_at: Some("03-03 10:00"),
        first_response_at: Some("03-03 14:00"),
        first_review_at: Some("03-03 14:00"),
        review_time_hours: Some(4.0),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "reviewers",
                who: &[("backend", "03-03 10:06")],
                since: "03-03 10:06",
                kind_since: "03-03 10:06",
                rule: 7,
            }),
            turns: &[("nobody", "03-03 10:00"), ("reviewers", "03-03 10:06")],
            time_by: &[("nobody", 0.1), ("reviewers", 409.9)],
            // The payload of Tomas' review still has the request.
            pairs: vec![ExpectedPair::unanswered("backend", "03-03 10:06")],
            rounds: 1,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn draft_never_ready(team: &Team) -> ExpectedChapter {
    let pr = team.draft(
        106,
        &team.yuki,
        "Sketch of a streaming export",
        "streaming-export",
        "03-03 11:00",
    );
    let mut chapter = Chapter::opened("draft-never-ready", pr);
    chapter.commented(&team.mira, "I like where this goes.", "03-03 16:00");
    let expected = Expected {
        story: "Yuki opens a draft and never marks it ready. What Mira writes meanwhile is not yet a response.",
        title: "Sketch of a streaming export",
        state: "open",
        draft: true,
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "author",
                who: &[("yuki-acme", "03-03 11:00")],
                since: "03-03 11:00",
                kind_since: "03-03 11:00",
                rule: 1,
            }),
            turns: &[("author", "03-03 11:00")],
            time_by: &[("author", 409.0)],
            ..ExpectedTurns::default()
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn changes_then_approval(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        107,
        &team.tomas,
        "Sign the session cookie",
        "signed-cookie",
        "03-03 14:00",
    );
    let mut chapter = Chapter::opened("changes-then-approval", pr);
    chapter.review_requested(&team.ines, &team.tomas, "03-03 14:01");
    let review = chapter.new_id();
    let first = chapter.inline_comment(review, &team.ines, "03-04 08:48", "03-04 09:00");
    chapter.reviewed_as(review, Some(&team.ines), "changes_requested", "03-04 09:00");
    chapter.inline_comment(review, &team.ines, "03-04 09:00", "03-04 09:00");
    chapter.pushed(&team.tomas, "03-04 11:00");
    chapter.thread_resolved(&[first], &team.tomas, "03-04 11:05");
    chapter.review_requested(&team.ines, &team.tomas, "03-04 11:10");
    chapter.reviewed(Some(&team.ines), "approved", "03-04 14:00");
    chapter.merged(&team.tomas, "03-04 16:00");
    let expected = Expected {
        story: "Ines asks for changes; her inline comments arrive in the same second, although one was written twelve \
                minutes before. Tomas pushes, resolves the thread and asks again; she approves and he merges.",
        title: "Sign the session cookie",
        state: "merged",
        ready_at: Some("03-03 14:00"),
        first_response_at: Some("03-04 09:00"),
        first_review_at: Some("03-04 09:00"),
        final_approval_at: Some("03-04 14:00"),
        closed_at: Some("03-04 16:00"),
        merged_at: Some("03-04 16:00"),
        cycle_time_hours: Some(26.0),
        review_time_hours: Some(19.0),
        stages: Stages {
            pickup: Some(19.0),
            review: Some(5.0),
            merge_wait: Some(2.0),
            ..Stages::default()
        },
        turns: Some(ExpectedTurns {
            turns: &[
                ("nobody", "03-03 14:00"),
                ("reviewers", "03-03 14:01"),
                ("author", "03-04 09:00"),
                ("reviewers", "03-04 11:00"),
                ("author", "03-04 14:00"),
            ],
            // 18 h 59 min and 3 h, 2 h and 2 h, one minute.
            time_by: &[
                ("author", 4.0),
                ("nobody", 1.0 / 60.0),
                ("reviewers", 21.0 + 59.0 / 60.0),
            ],
            pairs: vec![
                ExpectedPair::answered("ines-acme", 1, "03-03 14:01", "03-04 09:00"),
                ExpectedPair::answered("ines-acme", 2, "03-04 11:10", "03-04 14:00"),
            ],
            rounds: 2,
            ..ExpectedTurns::default()
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn bot_first(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        108,
        &team.yuki,
        "Log one line per request",
        "request-log",
        "03-04 09:00",
    );
    let mut chapter = Chapter::opened("bot-first", pr);
    chapter.reviewed(Some(&team.lint_bot), "changes_requested", "03-04 09:00:10");
    chapter.reviewed(Some(&team.mira), "approved", "03-04 14:00");
    chapter.merged(&team.yuki, "03-05 09:00");
    let expected = Expected {
        story: "A bot asks for changes after ten seconds; Mira approves after five hours. Neither the bot's \
                speed nor its opinion counts.",
        title: "Log one line per request",
        state: "merged",
        ready_at: Some("03-04 09:00"),
        first_response_at: Some("03-04 14:00"),
        first_review_at: Some("03-04 14:00"),
        final_approval_at: Some("03-04 14:00"),
        closed_at: Some("03-05 09:00"),
        merged_at: Some("03-05 09:00"),
        cycle_time_hours: Some(24.0),
        review_time_hours: Some(5.0),
        stages: Stages {
            pickup: Some(5.0),
            review: Some(0.0),
            merge_wait: Some(19.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn back_to_draft(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        109,
        &team.tomas,
        "Retry failed uploads",
        "retry-uploads",
        "03-04 10:00",
    );
    let mut chapter = Chapter::opened("back-to-draft", pr);
    chapter.converted_to_draft(&team.tomas, "03-04 12:00");
    chapter.ready_for_review(&team.tomas, "03-05 09:00");
    chapter.reviewed(Some(&team.mira), "approved", "03-05 11:00");
    chapter.merged(&team.tomas, "03-05 12:00");
    let expected = Expected {
        story: "Tomas opens it ready, takes it back to draft at noon and has it ready again the next morning. It was \
                ready from the start; the 21 hours as a draft are taken out of the pickup.",
        title: "Retry failed uploads",
        state: "merged",
        ready_at: Some("03-04 10:00"),
        first_response_at: Some("03-05 11:00"),
        first_review_at: Some("03-05 11:00"),
        final_approval_at: Some("03-05 11:00"),
        closed_at: Some("03-05 12:00"),
        merged_at: Some("03-05 12:00"),
        cycle_time_hours: Some(26.0),
        review_time_hours: Some(25.0),
        stages: Stages {
            pickup: Some(4.0),
            review: Some(0.0),
            merge_wait: Some(1.0),
            redraft: Some(21.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn closed_and_reopened(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        110,
        &team.ines,
        "Drop the old token format",
        "old-tokens",
        "03-04 13:00",
    );
    let mut chapter = Chapter::opened("closed-and-reopened", pr);
    chapter.reviewed(Some(&team.yuki), "commented", "03-04 15:00");
    chapter.closed(&team.ines, "03-04 17:00");
    chapter.reopened(&team.ines, "03-05 09:00");
    chapter.reviewed(Some(&team.yuki), "approved", "03-05 10:00");
    chapter.merged(&team.ines, "03-05 10:30");
    let expected = Expected {
        story: "After a first review Ines gives up in the evening and thinks better of it in the morning. The 16 closed \
                hours are taken out of the review.",
        title: "Drop the old token format",
        state: "merged",
        ready_at: Some("03-04 13:00"),
        first_response_at: Some("03-04 15:00"),
        first_review_at: Some("03-04 15:00"),
        final_approval_at: Some("03-05 10:00"),
        closed_at: Some("03-05 10:30"),
        merged_at: Some("03-05 10:30"),
        cycle_time_hours: Some(21.5),
        review_time_hours: Some(2.0),
        stages: Stages {
            pickup: Some(2.0),
            review: Some(3.0),
            merge_wait: Some(0.5),
            closed: Some(16.0),
            ..Stages::default()
        },
        flags: &["reopened"],
        turns: Some(ExpectedTurns {
            turns: &[
                ("nobody", "03-04 13:00"),
                ("author", "03-04 15:00"),
                ("closed", "03-04 17:00"),
                ("author", "03-05 09:00"),
            ],
            time_by: &[("author", 3.5), ("closed", 16.0), ("nobody", 2.0)],
            rounds: 1,
            ..ExpectedTurns::default()
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn bot_author(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        111,
        &team.deps_bot,
        "Bump the TLS library",
        "deps/tls",
        "03-05 06:00",
    );
    let mut chapter = Chapter::opened("bot-author", pr);
    chapter.reviewed(Some(&team.tomas), "approved", "03-05 09:00");
    chapter.auto_merge_enabled(&team.tomas, "03-05 09:05");
    chapter.merged(&team.tomas, "03-05 09:30");
    let expected = Expected {
        story: "A bot proposes an update before breakfast. Tomas approves it and lets GitHub merge it when the checks \
                are green. The numbers are those of any other, but no team's series counts them.",
        title: "Bump the TLS library",
        state: "merged",
        author_is_bot: true,
        ready_at: Some("03-05 06:00"),
        first_response_at: Some("03-05 09:00"),
        first_review_at: Some("03-05 09:00"),
        final_approval_at: Some("03-05 09:00"),
        closed_at: Some("03-05 09:30"),
        merged_at: Some("03-05 09:30"),
        cycle_time_hours: Some(3.5),
        review_time_hours: Some(3.0),
        stages: Stages {
            pickup: Some(3.0),
            review: Some(0.0),
            merge_wait: Some(0.5),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}

fn push_after_approval(team: &Team) -> ExpectedChapter {
    let pr = team.pr(112, &team.mira, "Cache", "answer-cache", "03-05 13:00");
    let mut chapter = Chapter::opened("push-after-approval", pr);
    chapter.retitled("Cache answers for one minute", &team.mira, "03-05 14:00");
    chapter.reviewed(Some(&team.ines), "approved", "03-05 15:00");
    chapter.pushed(&team.mira, "03-06 09:00");
    chapter.merged(&team.mira, "03-06 10:00");
    let expected = Expected {
        story: "Ines approves, Mira pushes once more the next morning and merges. The \
                approval stands, and the flag tells that nobody approved what was merged.",
        title: "Cache answers for one minute",
        state: "merged",
        ready_at: Some("03-05 13:00"),
        first_response_at: Some("03-05 15:00"),
        first_review_at: Some("03-05 15:00"),
        final_approval_at: Some("03-05 15:00"),
        closed_at: Some("03-06 10:00"),
        merged_at: Some("03-06 10:00"),
        cycle_time_hours: Some(21.0),
        review_time_hours: Some(2.0),
        stages: Stages {
            pickup: Some(2.0),
            review: Some(0.0),
            merge_wait: Some(19.0),
            ..Stages::default()
        },
        flags: &["pushed_after_approval"],
        ..Expected::default()
    };
    (chapter, expected)
}

fn dismissed_approval(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        113,
        &team.yuki,
        "Limit the size of uploads",
        "upload-limit",
        "03-06 09:00",
    );
    let mut chapter = Chapter::opened("dismissed-approval", pr);
    let approval = chapter.reviewed(Some(&team.tomas), "approved", "03-06 10:00");
    chapter.dismissed(&approval, &team.mira, "03-06 12:00");
    chapter.reviewed(Some(&team.tomas), "approved", "03-06 15:00");
    chapter.merged(&team.yuki, "03-06 16:00");
    let expected = Expected {
        story: "Tomas approves, Mira finds that he had looked at the wrong branch and dismisses it, he approves again. \
                The first review stays where it was; the final approval is the second.",
        title: "Limit the size of uploads",
        state: "merged",
        ready_at: Some("03-06 09:00"),
        first_response_at: Some("03-06 10:00"),
        first_review_at: Some("03-06 10:00"),
        final_approval_at: Some("03-06 15:00"),
        closed_at: Some("03-06 16:00"),
        merged_at: Some("03-06 16:00"),
        cycle_time_hours: Some(7.0),
        review_time_hours: Some(1.0),
        stages: Stages {
            pickup: Some(1.0),
            review: Some(5.0),
            merge_wait: Some(1.0),
            ..Stages::default()
        },
        turns: Some(ExpectedTurns {
            turns: &[
                ("nobody", "03-06 09:00"),
                ("author", "03-06 10:00"),
                ("reviewers", "03-06 12:00"),
                ("author", "03-06 15:00"),
            ],
            time_by: &[("author", 3.0), ("nobody", 1.0), ("reviewers", 3.0)],
            rounds: 1,
            ..ExpectedTurns::default()
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn fork_deleted(team: &Team) -> ExpectedChapter {
    let mut pr = team.pr(
        114,
        &team.lena,
        "Correct the retry example",
        "retry-docs",
        "03-06 11:00",
    );
    pr.body = None;
    pr.head_repo = HeadRepo::Fork {
        owner: team.lena.clone(),
        id: 1_900_000_777,
    };
    let mut chapter = Chapter::opened("fork-deleted", pr);
    chapter.assigned(&team.mira, &team.mira, "03-06 16:00");
    chapter.pr.head_repo = HeadRepo::Deleted {
        owner: team.lena.clone(),
    };
    chapter.reviewed(Some(&team.mira), "approved", "03-09 09:00");
    chapter.merged(&team.mira, "03-09 12:00");
    let expected = Expected {
        story: "Lena contributes from a fork, without a description, and deletes the fork over the weekend. Mira can \
                still approve and merge it on Monday; hours are counted through the weekend.",
        title: "Correct the retry example",
        state: "merged",
        ready_at: Some("03-06 11:00"),
        first_response_at: Some("03-09 09:00"),
        first_review_at: Some("03-09 09:00"),
        final_approval_at: Some("03-09 09:00"),
        closed_at: Some("03-09 12:00"),
        merged_at: Some("03-09 12:00"),
        cycle_time_hours: Some(73.0),
        review_time_hours: Some(70.0),
        stages: Stages {
            pickup: Some(70.0),
            review: Some(0.0),
            merge_wait: Some(3.0),
            ..Stages::default()
        },
        ..Expected::default()
    };
    (chapter, expected)
}
