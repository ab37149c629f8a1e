//! Cases with their answers, in seconds from the creation, as of second 100.

use tallyhook_core::domain::numbers::NumberRules;
use tallyhook_core::domain::pull_request::{PullRequest, Source};
use tallyhook_core::domain::waiting::{self, Waiting, WaitingFor, WaitingRules};
use tallyhook_core::event::ReviewState::{Approved, ChangesRequested, Commented};
use tallyhook_core::event::{AuthorAssociation, FetchedPullRequest, MergeState};
use testkit::reviewing::Deed::{self, *};
use testkit::reviewing::{AUTHOR, BACKEND, BOT, Story, account};

use super::{after, second, time, turns};

/// A story that is open, and what it waits for.
struct Case {
    name: &'static str,
    draft: bool,
    deeds: &'static [(i64, Deed)],
    waits_for: WaitingFor,
    since: i64,
    /// The logins and slugs, the longest waiting first.
    who: &'static [&'static str],
}

const fn case(
    name: &'static str,
    deeds: &'static [(i64, Deed)],
    waits_for: WaitingFor,
    since: i64,
    who: &'static [&'static str],
) -> Case {
    Case {
        name,
        draft: false,
        deeds,
        waits_for,
        since,
        who,
    }
}

const fn draft(mut case: Case) -> Case {
    case.draft = true;
    case
}

use WaitingFor::{Author, Ci, Maintainers, MergeQueue, Nobody, Reviewers};

#[rustfmt::skip]
const CASES: &[Case] = &[
    draft(case("1: opened as a draft, r1 asked", &[(5, Ask(1))], Author, 0, &["r0"])),
    case("2: opened ready, no one asked", &[], Nobody, 0, &[]),
    case("3: r1 asked", &[(10, Ask(1))], Reviewers, 10, &["r1"]),
    draft(case("4: asked in draft, then ready", &[(5, Ask(1)), (40, Ready)], Reviewers, 40, &["r1"])),
    case("5: two asked, one approves", &[(10, Ask(1)), (20, Ask(2)), (30, Review(1, Approved))], Reviewers, 20, &["r2"]),
    case("6: changes requested", &[(10, Ask(1)), (30, Review(1, ChangesRequested))], Author, 30, &["r0"]),
    case("7: pushed twice, not asked again", &[(10, Ask(1)), (30, Review(1, ChangesRequested)), (50, Push(AUTHOR)), (60, Push(AUTHOR))], Reviewers, 60, &["r1"]),
    case("8: pushed, and asked again", &[(10, Ask(1)), (30, Review(1, ChangesRequested)), (50, Push(AUTHOR)), (70, Ask(1))], Reviewers, 70, &["r1"]),
    case("9: an objection is not answered by words", &[(10, Ask(1)), (30, Review(1, ChangesRequested)), (50, Comment(AUTHOR))], Author, 30, &["r0"]),
    case("10: a comment is answered by a comment", &[(10, Ask(1)), (30, Review(1, Commented)), (50, Comment(AUTHOR))], Reviewers, 50, &["r1"]),
    case("11: of two objections one comes back after the push", &[(10, Ask(1)), (10, Ask(2)), (30, Review(1, ChangesRequested)), (40, Review(2, ChangesRequested)), (50, Push(AUTHOR)), (60, Review(2, ChangesRequested))], Author, 60, &["r0"]),
    case("12: approved, no one else asked", &[(10, Ask(1)), (30, Review(1, Approved))], Author, 30, &["r0"]),
    case("15: approved and enqueued", &[(10, Ask(1)), (30, Review(1, Approved)), (40, Enqueue)], MergeQueue, 40, &[]),
    case("16a: put out of the queue by its checks", &[(10, Ask(1)), (30, Review(1, Approved)), (40, Enqueue), (50, Dequeue("CI_FAILURE"))], Author, 50, &["r0"]),
    case("16b: taken out of the queue by hand", &[(10, Ask(1)), (30, Review(1, Approved)), (40, Enqueue), (50, Dequeue("MANUAL"))], Author, 30, &["r0"]),
    case("17: approval dismissed by a push", &[(10, Ask(1)), (30, Review(1, Approved)), (50, Push(AUTHOR)), (50, Dismiss(0))], Reviewers, 50, &["r1"]),
    case("18: the only objection dismissed", &[(10, Ask(1)), (30, Review(1, ChangesRequested)), (50, Dismiss(0))], Nobody, 50, &[]),
    case("19: request removed before any review", &[(10, Ask(1)), (40, Unask(1))], Nobody, 40, &[]),
    case("20: only a bot asked, and it reviews", &[(1, Ask(BOT)), (9, Review(BOT, Commented))], Nobody, 0, &[]),
    case("21: team asked, a member comments", &[(10, Ask(BACKEND)), (30, Review(5, Commented))], Author, 30, &["r0"]),
    case("22: a bot's push answers nothing", &[(10, Ask(1)), (30, Review(1, ChangesRequested)), (50, Push(BOT))], Author, 30, &["r0"]),
    case("23: asked, closed, reopened", &[(10, Ask(1)), (20, Close), (60, Reopen)], Reviewers, 60, &["r1"]),
    case("25: the author reviews the own pull request", &[(10, Ask(1)), (20, Review(AUTHOR, Approved))], Reviewers, 10, &["r1"]),
    case("27: a bystander comments", &[(10, Ask(1)), (20, Comment(2))], Reviewers, 10, &["r1"]),
    // Beyond the definition's own list.
    case("only a bot asked", &[(1, Ask(BOT))], Nobody, 0, &[]),
    case("team asked", &[(10, Ask(BACKEND))], Reviewers, 10, &["backend"]),
    case("a team and a person with the same id asked", &[(10, Ask(BACKEND)), (20, Ask(1))], Reviewers, 10, &["backend", "r1"]),
    case("the person with the team's id answers", &[(10, Ask(BACKEND)), (20, Ask(1)), (30, Review(1, Approved))], Reviewers, 10, &["backend"]),
    case("a team's member answers for it, round after round", &[(10, Ask(BACKEND)), (30, Review(5, Commented)), (50, Push(AUTHOR)), (70, Review(5, ChangesRequested))], Author, 70, &["r0"]),
    case("a review comment by the author answers comments", &[(10, Ask(1)), (30, Review(1, Commented)), (50, Review(AUTHOR, Commented))], Reviewers, 50, &["r1"]),
    case("an uninvited comment waits for an answer", &[(20, Comment(2))], Author, 20, &["r0"]),
    case("a comment of the approver changes nothing", &[(30, Review(1, Approved)), (40, Comment(1))], Author, 30, &["r0"]),
    case("an objection that another approval stands against", &[(20, Review(1, Approved)), (30, Review(2, ChangesRequested))], Author, 30, &["r0"]),
    case("an objector who is no longer asked", &[(30, Review(1, ChangesRequested)), (50, Push(AUTHOR)), (60, Ask(1)), (70, Unask(1))], Nobody, 70, &[]),
    case("auto-merge waits for GitHub's conditions", &[(20, Review(1, Approved)), (40, AutoMerge(true))], Ci, 40, &[]),
    case("auto-merge on and off within one second", &[(20, Review(1, Approved)), (40, AutoMerge(true)), (40, AutoMerge(false))], Author, 20, &["r0"]),
    case("a person asked, auto-merge on", &[(10, Ask(1)), (40, AutoMerge(true))], Reviewers, 10, &["r1"]),
    case("draft again with an objection, and ready again", &[(30, Review(1, ChangesRequested)), (40, ToDraft), (70, Ready)], Reviewers, 70, &["r1"]),
    case("a colleague pushes the answer", &[(30, Review(1, ChangesRequested)), (50, Push(2))], Reviewers, 50, &["r1"]),
];

fn waiting_of(case: &Case) -> Waiting {
    let story = Story::of(case.draft, case.deeds);
    let found = turns(&after(&story.events), Some(time(100)));
    found
        .waiting
        .expect("an open pull request waits for something")
}

fn answer(waiting: &Waiting) -> (WaitingFor, i64, Vec<&str>) {
    let who = waiting.who.iter().map(|waiter| waiter.party.name());
    (waiting.on, second(waiting.since), who.collect())
}

#[test]
fn an_open_pull_request_waits_for_one_thing_since_a_time() {
    for case in CASES {
        let waiting = waiting_of(case);
        let expected = (case.waits_for, case.since, case.who.to_vec());
        assert_eq!(answer(&waiting), expected, "{}: {waiting:?}", case.name);
    }
}

fn case_named(number: &str) -> &'static Case {
    let mut cases = CASES.iter();
    cases.find(|case| case.name.starts_with(number)).unwrap()
}

#[test]
fn asking_again_after_a_push_keeps_the_time_since_which_reviewers_have_the_turn() {
    let waiting = waiting_of(case_named("8:"));
    assert_eq!(second(waiting.kind_since), 50);
    assert_eq!(waiting.rule, 7);
}

#[test]
fn reasons_are_in_words() {
    for (number, because, also) in [
        ("1:", "draft", &["r1: asked on 2 March"][..]),
        ("2:", "no one is asked", &[]),
        ("3:", "asked on 2 March", &[]),
        (
            "6:",
            "changes requested by r1 on 2 March and not answered by a push",
            &[],
        ),
        ("7:", "to look again after the push of 2 March", &[]),
        (
            "11:",
            "changes requested by r2 on 2 March and not answered by a push",
            &["r1: to look again after the push of 2 March"],
        ),
        ("12:", "approved, and the author may merge it", &[]),
        ("16a:", "left the merge queue by CI_FAILURE", &[]),
        ("21:", "commented by r5 on 2 March and not answered", &[]),
        ("only a bot", "only bots are asked", &[]),
        (
            "an objector who",
            "changes requested by r1 stand, and r1 is not asked again",
            &[],
        ),
    ] {
        let waiting = waiting_of(case_named(number));
        assert_eq!(waiting.because, because, "{number}");
        assert_eq!(waiting.also, also, "{number}");
    }
}

#[test]
fn an_author_without_write_access_waits_for_maintainers() {
    // Case 13.
    let author = account(AUTHOR);
    let association = AuthorAssociation::Contributor;
    let mut story = Story::opened_by(false, author, association, Vec::new());
    story.does(10, &Ask(1));
    story.does(30, &Review(1, Approved));
    let waiting = turns(&after(&story.events), Some(time(100)))
        .waiting
        .unwrap();
    assert_eq!(answer(&waiting), (Maintainers, 30, vec![]));
}

#[test]
fn a_bot_s_pull_request_waits_for_the_people_assigned_to_it() {
    for (assignees, who) in [(vec![account(2), account(BOT)], "r2"), (vec![], "r4")] {
        let association = AuthorAssociation::Contributor;
        let mut story = Story::opened_by(false, account(BOT), association, assignees);
        story.does(30, &Review(1, ChangesRequested));
        let waiting = turns(&after(&story.events), None).waiting.unwrap();
        assert_eq!(answer(&waiting), (Author, 30, vec![who]));
        // Its own push is an answer, though a bot's.
        story.does(50, &Push(AUTHOR));
        let waiting = turns(&after(&story.events), None).waiting.unwrap();
        assert_eq!(answer(&waiting), (Reviewers, 50, vec!["r1"]));
    }
}

#[test]
fn an_agent_with_the_account_of_a_person_waits_for_those_who_are_assigned() {
    let assignees = vec![account(2), account(AUTHOR)];
    let association = AuthorAssociation::Member;
    let mut story = Story::opened_by(false, account(AUTHOR), association, assignees);
    story.does(30, &Review(1, ChangesRequested));
    let mut rules = NumberRules::default();
    let found = |rules: &NumberRules| {
        let found = waiting::turns(&after(&story.events), None, rules, None);
        found.unwrap().waiting.unwrap()
    };
    assert_eq!(answer(&found(&rules)), (Author, 30, vec!["r0"]));
    let added = ["agent:r0"].map(|account| account.parse().unwrap());
    rules.origins.accounts = added.into_iter().collect();
    assert_eq!(answer(&found(&rules)), (Author, 30, vec!["r2"]));
}

/// Returns the story as an answer of GitHub's API at `asked_at` shows it, with the state of its
/// merge.
fn fetched(story: &Story, asked_at: i64, change: impl Fn(&mut MergeState)) -> FetchedPullRequest {
    let last = story.events.last().unwrap();
    let mut state = MergeState {
        head_sha: story.head_sha(),
        review_decision: None,
        conflicting: None,
        required_check_failed_at: None,
        checks_pending_since: None,
    };
    change(&mut state);
    FetchedPullRequest {
        repo: last.repo.clone(),
        number: last.number,
        pull_request: last.pull_request.clone().unwrap(),
        timeline: story
            .events
            .iter()
            .flat_map(|event| event.facts.clone())
            .collect(),
        reviews: story
            .events
            .iter()
            .filter_map(|event| event.review.clone())
            .collect(),
        commits: None,
        truncated: false,
        settled: true,
        commit_list: Vec::new(),
        merge_state: Some(state),
        merge_state_at: Some(time(asked_at)),
    }
}

fn after_fetch(story: &Story, change: impl Fn(&mut MergeState)) -> PullRequest {
    let mut pull_request = after(&story.events);
    pull_request.apply_fetched(&fetched(story, 90, change), Source::Poller);
    pull_request
}

#[test]
fn checks_that_are_known_to_be_pending_follow_the_approval() {
    // Case 14.
    let story = Story::of(false, &[(20, AutoMerge(true)), (30, Review(1, Approved))]);
    let known = after_fetch(&story, |state| state.checks_pending_since = Some(time(5)));
    let waiting = turns(&known, Some(time(100))).waiting.unwrap();
    assert_eq!(answer(&waiting), (Ci, 30, vec![]));
    assert_eq!(
        (waiting.rule, &*waiting.because),
        (11, "approved, and checks are pending")
    );
}

#[test]
fn a_required_check_that_failed_on_the_head_is_the_author_s() {
    // Case 24.
    let mut story = Story::of(false, &[(10, Ask(1))]);
    let failed = |state: &mut MergeState| state.required_check_failed_at = Some(time(20));
    let known = after_fetch(&story, failed);
    let waiting = turns(&known, Some(time(100))).waiting.unwrap();
    assert_eq!(answer(&waiting), (Author, 20, vec!["r0"]));
    assert_eq!(
        (waiting.rule, &*waiting.also),
        (6, &["r1: asked on 2 March".to_owned()][..])
    );
    // After a push the check is of an earlier commit, and decides nothing.
    let stale = fetched(&story, 90, failed);
    story.does(95, &Push(AUTHOR));
    let mut pull_request = after(&story.events);
    pull_request.apply_fetched(&stale, Source::Poller);
    let waiting = turns(&pull_request, Some(time(100))).waiting.unwrap();
    assert_eq!(answer(&waiting), (Reviewers, 10, vec!["r1"]));
    assert_eq!(
        waiting.also,
        ["a required check of an earlier commit failed"]
    );
}

#[test]
fn a_known_conflict_is_the_author_s_since_it_was_seen() {
    let story = Story::of(false, &[(10, Ask(1))]);
    let known = after_fetch(&story, |state| state.conflicting = Some(true));
    let waiting = turns(&known, Some(time(100))).waiting.unwrap();
    assert_eq!(answer(&waiting), (Author, 90, vec!["r0"]));
    assert_eq!((waiting.rule, waiting.since_is_latest), (4, true));
    // Before that time it was not known.
    let waiting = turns(&known, Some(time(89))).waiting.unwrap();
    assert_eq!(answer(&waiting), (Reviewers, 10, vec!["r1"]));
}

#[test]
fn github_s_own_decision_counts_where_it_is_known() {
    use tallyhook_core::event::ReviewDecision;
    let mut story = Story::of(
        false,
        &[(10, Ask(1)), (20, Ask(2)), (30, Review(1, Approved))],
    );
    let decided = |decision| move |state: &mut MergeState| state.review_decision = Some(decision);
    let known = after_fetch(&story, decided(ReviewDecision::Approved));
    let waiting = turns(&known, Some(time(100))).waiting.unwrap();
    assert_eq!(answer(&waiting), (Author, 30, vec!["r0"]));
    let answered = fetched(&story, 90, decided(ReviewDecision::Approved));
    for (deed, expected) in [
        // A bot that is asked is none of GitHub's approvals.
        (Ask(BOT), (Author, 30, vec!["r0"])),
        // A review that followed makes it a decision of the past.
        (Review(3, Commented), (Reviewers, 20, vec!["r2"])),
    ] {
        story.does(95, &deed);
        let mut pull_request = after(&story.events);
        pull_request.apply_fetched(&answered, Source::Poller);
        let waiting = turns(&pull_request, Some(time(100))).waiting.unwrap();
        assert_eq!(answer(&waiting), expected, "{deed:?}");
    }
    // One that requires more counts against the approvals that there are.
    let story = Story::of(false, &[(30, Review(1, Approved))]);
    let known = after_fetch(&story, decided(ReviewDecision::ReviewRequired));
    let waiting = turns(&known, Some(time(100))).waiting.unwrap();
    assert_eq!(answer(&waiting), (Nobody, 30, vec![]));
    let because = "GitHub's rules require more approvals, and no one else is asked";
    assert_eq!(waiting.because, because);
}

fn with_rules(story: &Story, repo: &str, rules: WaitingRules) -> Waiting {
    let rules = NumberRules {
        waiting: rules,
        ..NumberRules::default()
    };
    let found = waiting::turns(&after(&story.events), Some(repo), &rules, Some(time(100)));
    found.unwrap().waiting.unwrap()
}

#[test]
fn two_approvals_can_be_required() {
    // Case 26.
    let two = || WaitingRules {
        required_approvals: 2,
        ..WaitingRules::default()
    };
    let mut story = Story::of(false, &[(10, Ask(1)), (30, Review(1, Approved))]);
    let waiting = with_rules(&story, "acme-corp/web", two());
    assert_eq!(answer(&waiting), (Nobody, 30, vec![]));
    assert_eq!(
        waiting.because,
        "1 of 2 approvals, and no one else is asked"
    );
    story.does(40, &Review(2, Approved));
    let waiting = with_rules(&story, "acme-corp/web", two());
    assert_eq!(answer(&waiting), (Author, 40, vec!["r0"]));
}

#[test]
fn default_reviewers_have_the_turn_where_no_one_is_asked() {
    let rules = || WaitingRules {
        default_reviewers: [
            ("acme-corp/*".to_owned(), vec!["backend".to_owned()]),
            (
                "acme-corp/web".to_owned(),
                vec!["web".to_owned(), "design".to_owned()],
            ),
        ]
        .into(),
        ..WaitingRules::default()
    };
    let mut story = Story::of(false, &[]);
    for (repo, expected) in [
        ("Acme-Corp/api", (Reviewers, 0, vec!["backend"])),
        ("acme-corp/web", (Reviewers, 0, vec!["web", "design"])),
        ("acme-corporation/web", (Nobody, 0, vec![])),
    ] {
        let waiting = with_rules(&story, repo, rules());
        assert_eq!((answer(&waiting), waiting.rule), (expected, 9), "{repo}");
    }
    story.does(10, &Ask(1));
    let waiting = with_rules(&story, "acme-corp/web", rules());
    assert_eq!(answer(&waiting), (Reviewers, 10, vec!["r1"]));
}
