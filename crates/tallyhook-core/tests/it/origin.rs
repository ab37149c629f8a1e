//! The origin of pull requests: each rule with its answer.

use tallyhook_core::domain::join::Dated;
use tallyhook_core::domain::numbers::{NumberRules, numbers};
use tallyhook_core::domain::origin::Origin::{self, Agent, Assisted, Automation, Human};
use tallyhook_core::domain::origin::OriginCertainty::{
    self, ByBranch, ByCommits, ByLabel, Certain,
};
use tallyhook_core::domain::origin::{OriginRules, PullRequestOrigin};
use tallyhook_core::domain::people::Bots;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::review::Review;
use tallyhook_core::event::{
    CommitDates, PullRequestDetails, PullRequestEvent, ReviewSnapshot, ReviewState,
};
use tallyhook_core::github::types::{Account, AccountId, AccountKind, RepoId, ReviewId, Timestamp};
use testkit::histories;
use testkit::histories::Step::Comment;

/// A pull request by `author` from a branch of its own repository or of a fork.
fn opened(author: &Account, branch: &str, in_fork: bool, label: &str) -> Vec<PullRequestEvent> {
    let mut events = histories::events(false, None, &[]);
    for event in &mut events {
        let snapshot = event.pull_request.as_mut().unwrap();
        snapshot.author = author.clone();
        snapshot.conversation.labels = vec![label.to_owned()];
        let branches = snapshot.branches.as_mut().unwrap();
        branches.head_ref = branch.to_owned();
        let fork = RepoId(histories::KEY.repo.0 + 1);
        branches.head_repo = Some(if in_fork { fork } else { histories::KEY.repo });
    }
    events
}

fn known(events: &[PullRequestEvent]) -> PullRequest {
    let mut pull_request = PullRequest::unknown(histories::KEY);
    for event in events {
        pull_request.apply(event, Source::Webhook);
    }
    pull_request
}

fn account(id: i64, login: &str, kind: AccountKind) -> Account {
    Account {
        id: AccountId(id),
        login: login.to_owned(),
        kind,
    }
}

fn rules() -> NumberRules {
    NumberRules {
        bots: Bots::new(["release-robot"]),
        origins: OriginRules {
            accounts: ["agent:ours[bot]", "reviewer:77", "agent:78"]
                .map(|account| account.parse().unwrap())
                .into_iter()
                .collect(),
            labels: ["ai-made".to_owned()].into(),
            ..OriginRules::default()
        },
        ..NumberRules::default()
    }
}

fn origin(events: &[PullRequestEvent]) -> PullRequestOrigin {
    numbers(&known(events), None, &rules()).unwrap().origin
}

#[test]
fn first_rule_that_holds_decides_and_names_never_do() {
    use AccountKind::{Bot, User};
    type Answer = Option<(Origin, OriginCertainty)>;
    let agent: Answer = Some((Agent, Certain));
    let by_branch: Answer = Some((Agent, ByBranch));
    let automation: Answer = Some((Automation, Certain));
    let by_label: Answer = Some((Assisted, ByLabel));
    let unknown: Answer = None;
    let [base, fork] = [false, true];
    for (id, login, kind, branch, in_fork, label, expected) in [
        // By id, under any login.
        (
            198_982_749,
            "Copilot",
            Bot,
            "copilot/fix-1",
            base,
            "",
            agent,
        ),
        (198_982_749, "renamed[bot]", Bot, "fix", base, "", agent),
        (209_825_114, "claude[bot]", Bot, "fix", base, "", agent),
        (78, "asked", User, "fix", base, "", agent),
        // By login where the id is not known, and of the settings.
        (5, "codegen-sh[bot]", Bot, "fix", base, "", agent),
        (5, "Ours[bot]", Bot, "fix", base, "", agent),
        // A login of the list with another id.
        (5, "claude[bot]", Bot, "fix", base, "", automation),
        // A reviewer's account that opens one is no agent.
        (
            136_622_811,
            "coderabbitai[bot]",
            Bot,
            "fix",
            base,
            "",
            automation,
        ),
        (
            49_699_333,
            "dependabot[bot]",
            Bot,
            "codex/fix",
            base,
            "",
            automation,
        ),
        (
            6,
            "release-robot",
            User,
            "codex/fix",
            base,
            "ai-made",
            automation,
        ),
        // Branches of the base repository alone.
        (7, "mira", User, "codex/fix", base, "", by_branch),
        (7, "mira", User, "codex/fix", base, "ai-made", by_branch),
        (7, "mira", User, "codex/fix", fork, "", unknown),
        (7, "mira", User, "codexes/fix", base, "", unknown),
        (7, "mira", User, "fix", fork, "AI-Made", by_label),
        (7, "mira", User, "fix", base, "ai-made-up", unknown),
        // People.
        (8, "claude", User, "fix", base, "", unknown),
        (8, "devin-ai-integration", User, "fix", base, "", unknown),
        (8, "codegen-sh", User, "fix", base, "", unknown),
    ] {
        let author = account(id, login, kind);
        let found = origin(&opened(&author, branch, in_fork, label));
        let answer = found.origin.zip(found.certainty);
        assert_eq!(answer, expected, "{login} {branch} {in_fork} {label}");
        // The author of the branch asked the agent for it.
        let asked = (answer == by_branch).then_some(author);
        assert_eq!(found.opened_by, asked, "{login} {branch}");
    }
}

#[test]
fn bots_and_ai_reviewers_answer_apart_from_people() {
    use AccountKind::{Bot, User};
    let author = account(7, "mira", User);
    let copilot = account(175_728_472, "Copilot", Bot);
    let linter = account(9, "linter[bot]", Bot);
    let hour = |event: &PullRequestEvent, hour: i64| {
        let created = event.pull_request.as_ref().unwrap().created_at.epoch();
        Timestamp::clamped(created + hour * 3600)
    };
    // Account 4 of the histories is a bot, account 1 a person.
    let mut events = histories::events(false, None, &[(7200, Comment(1)), (3600, Comment(4))]);
    for event in &mut events {
        event.pull_request.as_mut().unwrap().author = author.clone();
    }
    let first = events[0].clone();
    let reviewed = |id: i64, by: &Account, at: i64| {
        let mut event = first.clone();
        event.facts.clear();
        event.review = Some(ReviewSnapshot {
            id: ReviewId(id),
            author: by.clone(),
            state: ReviewState::Commented,
            submitted_at: hour(&first, at),
            commit_id: None,
            dismissed_at: None,
        });
        event
    };
    events.extend([
        reviewed(1, &linter, 4),
        reviewed(2, &copilot, 5),
        reviewed(3, &account(77, "asked", User), 6),
    ]);
    let numbers = numbers(&known(&events), None, &rules()).unwrap();
    let found = &numbers.origin;
    assert_eq!(found.first_bot_response_at, Some(hour(&first, 3)));
    assert_eq!(found.first_ai_review_at, Some(hour(&first, 5)));
    assert!(!found.reviewed_by_requester);
    // An AI account that GitHub calls a person is one for all other numbers.
    assert_eq!(numbers.timings.first_review_at, Some(hour(&first, 6)));
    assert_eq!(numbers.timings.first_response_at, Some(hour(&first, 2)));
}

#[test]
fn commits_tell_assisted_from_human_and_unknown_is_neither() {
    let author = account(7, "mira", AccountKind::User);
    let written = |co_authors: &[&str], fetched: bool| {
        let mut pull_request = known(&opened(&author, "fix", false, "ai-made"));
        pull_request
            .conversation
            .as_mut()
            .unwrap()
            .value
            .labels
            .clear();
        pull_request.co_authors = co_authors
            .iter()
            .map(|address| (*address).to_owned())
            .collect();
        pull_request.commits = fetched.then(|| Dated {
            at: pull_request.created_at.unwrap(),
            value: CommitDates {
                first_committed: pull_request.created_at,
                ..CommitDates::default()
            },
        });
        let found = numbers(&pull_request, None, &rules()).unwrap().origin;
        found.origin.zip(found.certainty)
    };
    assert_eq!(written(&[], false), None);
    assert_eq!(written(&[], true), Some((Human, ByCommits)));
    for (address, is_ai) in [
        ("noreply@anthropic.com", true),
        ("NoReply@Anthropic.com", true),
        ("aider@aider.chat", true),
        ("cursoragent@cursor.com", true),
        ("198982749+copilot@users.noreply.github.com", true),
        ("77+ours@users.noreply.github.com", true),
        ("5+codegen-sh[bot]@users.noreply.github.com", true),
        ("claude@example.com", false),
        ("7+claude@users.noreply.github.com", false),
        ("noreply@anthropic.com.example.com", false),
        ("198982749@users.noreply.github.com", false),
        ("codex@openai.com", false),
    ] {
        let expected = if is_ai { Assisted } else { Human };
        assert_eq!(
            written(&[address], true),
            Some((expected, ByCommits)),
            "{address}"
        );
    }
}

#[test]
fn agent_works_for_the_one_person_that_is_assigned() {
    let agent = account(198_982_749, "Copilot", AccountKind::Bot);
    let mira = account(7, "mira", AccountKind::User);
    let yuki = account(8, "yuki", AccountKind::User);
    let bot = account(9, "linter[bot]", AccountKind::Bot);
    let events = opened(&agent, "copilot/fix", false, "");
    let at = events[0].pull_request.as_ref().unwrap().created_at;
    let found = |assignees: &[&Account], reviewer: &Account| {
        let mut pull_request = known(&events);
        pull_request.details = Some(Dated {
            at,
            value: PullRequestDetails {
                assignees: Some(assignees.iter().map(|one| (*one).clone()).collect()),
                ..PullRequestDetails::default()
            },
        });
        let review = ReviewSnapshot {
            id: ReviewId(1),
            author: reviewer.clone(),
            state: ReviewState::Approved,
            submitted_at: at,
            commit_id: None,
            dismissed_at: None,
        };
        pull_request
            .reviews
            .insert(ReviewId(1), Review::from(review));
        let found = numbers(&pull_request, None, &rules()).unwrap();
        // The review of the one who asked counts for the review time.
        assert_eq!(found.timings.first_review_at, Some(at));
        (found.origin.opened_by, found.origin.reviewed_by_requester)
    };
    assert_eq!(
        found(&[&agent, &bot, &mira], &mira),
        (Some(mira.clone()), true)
    );
    assert_eq!(found(&[&agent, &mira], &yuki), (Some(mira.clone()), false));
    // Of two it is unknown which one asked.
    assert_eq!(found(&[&mira, &yuki], &mira), (None, false));
    assert_eq!(found(&[], &mira), (None, false));
}
