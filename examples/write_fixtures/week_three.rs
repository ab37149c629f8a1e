//! Monday 16 March to Friday 20 March 2026: the pull requests that are still open at the end, 126
//! to 134, each with the turns, requests and rounds that its reviewers and its author had.

use crate::chapter::Chapter;
use crate::expected::{Expected, ExpectedPair, ExpectedTurns, ExpectedWaiting};
use crate::team::Team;
use testkit::payloads::HeadRepo;

type ExpectedChapter = (Chapter, Expected);

pub(crate) fn chapters(team: &Team) -> Vec<ExpectedChapter> {
    vec![
        asked_again(team),
        answered_for_the_team(team),
        request_withdrawn(team),
        approval_dismissed_by_a_push(team),
        given_back_by_the_queue(team),
        agent_draft(team),
        only_an_ai_asked(team),
        approved_from_a_fork(team),
        in_the_merge_queue(team),
    ]
}

fn asked_again(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        126,
        &team.tomas,
        "Retry a lost write",
        "lost-write",
        "03-16 09:00",
    );
    let mut chapter = Chapter::opened("asked-again", pr);
    chapter.review_requested(&team.ines, &team.tomas, "03-16 10:00");
    chapter.review_requested(&team.mira, &team.tomas, "03-16 11:00");
    chapter.reviewed(Some(&team.ines), "changes_requested", "03-16 12:00");
    chapter.pushed(&team.tomas, "03-16 14:00");
    chapter.review_requested(&team.ines, &team.tomas, "03-16 15:00");
    chapter.reviewed(Some(&team.ines), "approved", "03-16 16:00");
    let expected = Expected {
        story: "Tomas asks Ines and Mira. Ines wants changes, gets them, is asked again and approves; Mira has been asked \
                since eleven and has not answered.",
        title: "Retry a lost write",
        state: "open",
        ready_at: Some("03-16 09:00"),
        first_response_at: Some("03-16 12:00"),
        first_review_at: Some("03-16 12:00"),
        review_time_hours: Some(3.0),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "reviewers",
                who: &[("mira-acme", "03-16 11:00")],
                since: "03-16 11:00",
                kind_since: "03-16 14:00",
                rule: 7,
            }),
            turns: &[
                ("nobody", "03-16 09:00"),
                ("reviewers", "03-16 10:00"),
                ("author", "03-16 12:00"),
                ("reviewers", "03-16 14:00"),
            ],
            time_by: &[("author", 2.0), ("nobody", 1.0), ("reviewers", 96.0)],
            pairs: vec![
                ExpectedPair::answered("ines-acme", 1, "03-16 10:00", "03-16 12:00"),
                ExpectedPair::unanswered("mira-acme", "03-16 11:00"),
                ExpectedPair::answered("ines-acme", 2, "03-16 15:00", "03-16 16:00"),
            ],
            rounds: 2,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn answered_for_the_team(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        127,
        &team.yuki,
        "Count what was skipped",
        "skipped",
        "03-16 10:00",
    );
    let mut chapter = Chapter::opened("answered-for-the-team", pr);
    chapter.team_requested("backend", &team.yuki, "03-16 10:30");
    chapter.reviewed_for_team("backend", &team.mira, "commented", "03-16 14:30");
    chapter.commented(&team.yuki, "Only those that were read.", "03-17 09:30");
    let expected = Expected {
        story: "Yuki asks the team backend, and Mira, a member of it, asks something in her review: the team's request is \
                answered. The next morning Yuki answers, and it is Mira's turn.",
        title: "Count what was skipped",
        state: "open",
        ready_at: Some("03-16 10:00"),
        first_response_at: Some("03-16 14:30"),
        first_review_at: Some("03-16 14:30"),
        review_time_hours: Some(4.5),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "reviewers",
                who: &[("mira-acme", "03-17 09:30")],
                since: "03-17 09:30",
                kind_since: "03-17 09:30",
                rule: 7,
            }),
            turns: &[
                ("nobody", "03-16 10:00"),
                ("reviewers", "03-16 10:30"),
                ("author", "03-16 14:30"),
                ("reviewers", "03-17 09:30"),
            ],
            time_by: &[("author", 19.0), ("nobody", 0.5), ("reviewers", 78.5)],
            pairs: vec![ExpectedPair::answered(
                "backend",
                1,
                "03-16 10:30",
                "03-16 14:30",
            )],
            rounds: 1,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn request_withdrawn(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        128,
        &team.ines,
        "Sort the exports",
        "sort-exports",
        "03-17 08:30",
    );
    let mut chapter = Chapter::opened("request-withdrawn", pr);
    chapter.review_requested(&team.tomas, &team.ines, "03-17 09:00");
    chapter.request_removed(&team.tomas, &team.ines, "03-17 13:00");
    let expected = Expected {
        story: "Ines asks Tomas, who is away that week, and takes the request back after four hours. Since then it is \
                the turn of no one.",
        title: "Sort the exports",
        state: "open",
        ready_at: Some("03-17 08:30"),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "nobody",
                who: &[],
                since: "03-17 13:00",
                kind_since: "03-17 13:00",
                rule: 9,
            }),
            turns: &[
                ("nobody", "03-17 08:30"),
                ("reviewers", "03-17 09:00"),
                ("nobody", "03-17 13:00"),
            ],
            time_by: &[("nobody", 71.5), ("reviewers", 4.0)],
            pairs: vec![ExpectedPair {
                party: "tomas-acme",
                k: 1,
                asked_at: "03-17 09:00",
                end: "withdrawn",
                ended_at: Some("03-17 13:00"),
                response_review_at: None,
                response_any_at: None,
            }],
            rounds: 0,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn approval_dismissed_by_a_push(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        129,
        &team.tomas,
        "Close idle connections",
        "idle",
        "03-17 10:00",
    );
    let mut chapter = Chapter::opened("approval-dismissed-by-a-push", pr);
    chapter.review_requested(&team.yuki, &team.tomas, "03-17 10:15");
    let approval = chapter.reviewed(Some(&team.yuki), "approved", "03-17 11:15");
    chapter.pushed(&team.tomas, "03-17 13:15");
    chapter.dismissed(&approval, &team.tomas, "03-17 13:15");
    let expected = Expected {
        story: "Yuki approves after an hour. Two hours later Tomas pushes once more, GitHub dismisses the approval in the \
                same second, and Yuki has to look again, although no one asked for it.",
        title: "Close idle connections",
        state: "open",
        ready_at: Some("03-17 10:00"),
        first_response_at: Some("03-17 11:15"),
        first_review_at: Some("03-17 11:15"),
        review_time_hours: Some(1.25),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "reviewers",
                who: &[("yuki-acme", "03-17 13:15")],
                since: "03-17 13:15",
                kind_since: "03-17 13:15",
                rule: 7,
            }),
            turns: &[
                ("nobody", "03-17 10:00"),
                ("reviewers", "03-17 10:15"),
                ("author", "03-17 11:15"),
                ("reviewers", "03-17 13:15"),
            ],
            time_by: &[("author", 2.0), ("nobody", 0.25), ("reviewers", 71.75)],
            pairs: vec![ExpectedPair::answered(
                "yuki-acme",
                1,
                "03-17 10:15",
                "03-17 11:15",
            )],
            rounds: 1,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn given_back_by_the_queue(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        130,
        &team.mira,
        "Split the slow query",
        "slow-query",
        "03-17 14:00",
    );
    let mut chapter = Chapter::opened("given-back-by-the-queue", pr);
    chapter.review_requested(&team.ines, &team.mira, "03-17 14:30");
    chapter.reviewed(Some(&team.ines), "approved", "03-17 16:30");
    chapter.enqueued(&team.mira, "03-17 17:00");
    chapter.dequeued("CI_FAILURE", &team.queue_bot, "03-17 17:30");
    let expected = Expected {
        story: "Ines approves, Mira hands it to the merge queue, and half an hour later the queue gives it back because a \
                check failed. Mira has not looked since.",
        title: "Split the slow query",
        state: "open",
        ready_at: Some("03-17 14:00"),
        first_response_at: Some("03-17 16:30"),
        first_review_at: Some("03-17 16:30"),
        review_time_hours: Some(2.5),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "author",
                who: &[("mira-acme", "03-17 17:30")],
                since: "03-17 17:30",
                kind_since: "03-17 17:30",
                rule: 3,
            }),
            turns: &[
                ("nobody", "03-17 14:00"),
                ("reviewers", "03-17 14:30"),
                ("author", "03-17 16:30"),
                ("merge_queue", "03-17 17:00"),
                ("author", "03-17 17:30"),
            ],
            time_by: &[
                ("author", 67.0),
                ("merge_queue", 0.5),
                ("nobody", 0.5),
                ("reviewers", 2.0),
            ],
            pairs: vec![ExpectedPair::answered(
                "ines-acme",
                1,
                "03-17 14:30",
                "03-17 16:30",
            )],
            rounds: 1,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn agent_draft(team: &Team) -> ExpectedChapter {
    let mut pr = team.draft(
        131,
        &team.copilot,
        "Document the webhook's errors",
        "copilot/document-errors",
        "03-18 09:00",
    );
    pr.assignees = vec![team.copilot.clone(), team.mira.clone()];
    let mut chapter = Chapter::opened("agent-draft", pr);
    chapter.pushed(&team.copilot, "03-18 09:40");
    chapter.review_requested(&team.mira, &team.copilot, "03-18 10:00");
    chapter.ready_for_review(&team.mira, "03-18 10:30");
    chapter.reviewed(Some(&team.copilot_reviewer), "commented", "03-18 10:35");
    chapter.reviewed(Some(&team.mira), "changes_requested", "03-18 11:30");
    let expected = Expected {
        story: "Mira assigns an issue to GitHub's agent, which opens a draft, works on it and asks her. She takes it out of \
                draft; GitHub's reviewing AI comments after five minutes, and she wants changes. What the agent has to \
                do waits for her, who has to ask it.",
        title: "Document the webhook's errors",
        state: "open",
        author_is_bot: true,
        ready_at: Some("03-18 10:30"),
        first_response_at: Some("03-18 11:30"),
        first_review_at: Some("03-18 11:30"),
        review_time_hours: Some(2.5),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "author",
                who: &[("mira-acme", "03-18 11:30")],
                since: "03-18 11:30",
                kind_since: "03-18 11:30",
                rule: 5,
            }),
            turns: &[
                ("author", "03-18 09:00"),
                ("reviewers", "03-18 10:30"),
                ("author", "03-18 11:30"),
            ],
            time_by: &[("author", 50.0), ("reviewers", 1.0)],
            // Asked while it was a draft: the request counts from when it was ready.
            pairs: vec![ExpectedPair::answered(
                "mira-acme",
                1,
                "03-18 10:30",
                "03-18 11:30",
            )],
            rounds: 1,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn only_an_ai_asked(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        132,
        &team.yuki,
        "Name the metrics",
        "metric-names",
        "03-18 13:00",
    );
    let mut chapter = Chapter::opened("only-an-ai-asked", pr);
    chapter.review_requested(&team.copilot_reviewer, &team.yuki, "03-18 13:01");
    chapter.reviewed(Some(&team.copilot_reviewer), "commented", "03-18 13:09");
    let expected = Expected {
        story: "Yuki asks only GitHub's reviewing AI, which answers within minutes. No person was ever asked, and none has \
                looked at it.",
        title: "Name the metrics",
        state: "open",
        ready_at: Some("03-18 13:00"),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "nobody",
                who: &[],
                since: "03-18 13:00",
                kind_since: "03-18 13:00",
                rule: 9,
            }),
            turns: &[("nobody", "03-18 13:00")],
            time_by: &[("nobody", 47.0)],
            pairs: vec![],
            rounds: 0,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn approved_from_a_fork(team: &Team) -> ExpectedChapter {
    let mut pr = team.pr(
        133,
        &team.lena,
        "Explain the retry header",
        "retry-docs",
        "03-18 15:00",
    );
    pr.head_repo = HeadRepo::Fork {
        owner: team.lena.clone(),
        id: 1_900_000_205,
    };
    let mut chapter = Chapter::opened("approved-from-a-fork", pr);
    chapter.reviewed(Some(&team.mira), "approved", "03-18 17:00");
    let expected = Expected {
        story: "Lena, who is not of the team, asks no one; Mira finds it and approves. Lena cannot merge it, so that it \
                waits for the maintainers.",
        title: "Explain the retry header",
        state: "open",
        ready_at: Some("03-18 15:00"),
        first_response_at: Some("03-18 17:00"),
        first_review_at: Some("03-18 17:00"),
        review_time_hours: Some(2.0),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "maintainers",
                who: &[],
                since: "03-18 17:00",
                kind_since: "03-18 17:00",
                rule: 12,
            }),
            turns: &[("nobody", "03-18 15:00"), ("maintainers", "03-18 17:00")],
            time_by: &[("maintainers", 43.0), ("nobody", 2.0)],
            pairs: vec![],
            rounds: 1,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}

fn in_the_merge_queue(team: &Team) -> ExpectedChapter {
    let pr = team.pr(
        134,
        &team.ines,
        "Bound the body's size",
        "body-size",
        "03-19 13:00",
    );
    let mut chapter = Chapter::opened("in-the-merge-queue", pr);
    chapter.review_requested(&team.tomas, &team.ines, "03-19 13:30");
    chapter.reviewed(Some(&team.tomas), "approved", "03-19 15:30");
    chapter.enqueued(&team.ines, "03-20 08:30");
    let expected = Expected {
        story: "Tomas approves on Thursday, and on Friday morning Ines hands it to the merge queue, where it still is.",
        title: "Bound the body's size",
        state: "open",
        ready_at: Some("03-19 13:00"),
        first_response_at: Some("03-19 15:30"),
        first_review_at: Some("03-19 15:30"),
        review_time_hours: Some(2.5),
        turns: Some(ExpectedTurns {
            waiting: Some(ExpectedWaiting {
                on: "merge_queue",
                who: &[],
                since: "03-20 08:30",
                kind_since: "03-20 08:30",
                rule: 2,
            }),
            turns: &[
                ("nobody", "03-19 13:00"),
                ("reviewers", "03-19 13:30"),
                ("author", "03-19 15:30"),
                ("merge_queue", "03-20 08:30"),
            ],
            time_by: &[
                ("author", 17.0),
                ("merge_queue", 3.5),
                ("nobody", 0.5),
                ("reviewers", 2.0),
            ],
            pairs: vec![ExpectedPair::answered(
                "tomas-acme",
                1,
                "03-19 13:30",
                "03-19 15:30",
            )],
            rounds: 1,
        }),
        ..Expected::default()
    };
    (chapter, expected)
}
