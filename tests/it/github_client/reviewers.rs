//! Requests for reviews, the state of a merge, pushes and commits of fetched pull requests.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tallyhook_core::event::{
    self, AuthorAssociation, FactKind, FetchedPullRequest, ReviewDecision, SubjectKind,
};
use tallyhook_core::github::types::{PrNumber, Timestamp};
use tallyhook_github_client::Client;

use super::fake;
use testkit::github::acts::Act;
use testkit::github::growth::Growth;
use testkit::github::world::{Check, Opening, PullRequest, Reviewer};
use testkit::github::{FakeGithub, growth::people};
use testkit::payloads::{Account, HeadRepo, Team};

const OF: &str = "acme-corp/api-server";

/// A time so many minutes before today's last midnight.
fn at(minutes: i64) -> Timestamp {
    let midnight = Utc::now().date_naive().and_hms_opt(0, 0, 0).unwrap();
    (midnight.and_utc() - TimeDelta::hours(2) + TimeDelta::minutes(minutes)).into()
}

/// A pull request with a push, a forced push, and requests of a person, a bot and a team.
fn opened(github: &FakeGithub) -> i64 {
    let author = Account::contributor(3, "ana");
    let opening = Opening {
        author: &author,
        title: "A change",
        branch: "topic",
        head_repo: HeadRepo::Same,
        draft: false,
        at: at(0),
        commits: &[(at(-20), at(-10))],
    };
    let number = github.world(|world| world.open(OF, &opening).0);
    let team = Team {
        id: 5,
        slug: "backend".to_owned(),
    };
    for (minutes, act) in [
        (1, Act::Request(Reviewer::Account(people().remove(0)))),
        (
            2,
            Act::Request(Reviewer::Account(Account::bot(5, "checker"))),
        ),
        (3, Act::Request(Reviewer::Team(team))),
        (4, Act::Push),
        (5, Act::ForcePush),
    ] {
        github.world(|world| world.act(OF, number, &author, at(minutes), &act));
    }
    number
}

fn change(github: &FakeGithub, number: i64, change: impl Fn(&mut PullRequest)) {
    github.world(|world| change(world.repository(OF).pulls.get_mut(&number).unwrap()));
}

async fn fetched(client: &Client, number: i64, commits: bool) -> FetchedPullRequest {
    let mut found = client
        .pull_requests_by_number(OF, &[PrNumber(number)], commits)
        .await
        .unwrap();
    let complete = found.complete.remove(0);
    let at = found.asked_at.into();
    event::fetched(
        &found.repository,
        complete.pull_request,
        commits,
        complete.truncated,
        at,
    )
    .unwrap()
}

#[tokio::test]
async fn fetched_requests_pushes_and_commits_are_those_of_the_world() {
    let (github, client, _) = fake().await;
    let number = opened(&github);
    change(&github, number, |pull| {
        let trailer = "Fix it\n\nCo-authored-by: Claude <noreply@anthropic.com>";
        trailer.clone_into(&mut pull.commits[1].message);
    });
    let found = fetched(&client, number, true).await;
    let requested = found.pull_request.requested.clone().unwrap();
    let (user, bot) = (people().remove(0).id, 5);
    assert_eq!(
        requested.keys().collect::<Vec<_>>(),
        [
            (SubjectKind::Bot, bot),
            (SubjectKind::User, user),
            (SubjectKind::Team, 5)
        ]
    );
    assert_eq!(requested.accounts[0].login, "checker[bot]");
    let facts = |kind| {
        let facts = found.timeline.iter().filter(move |fact| fact.kind == kind);
        facts.map(|fact| (fact.at, fact.subject_kind, fact.detail.clone()))
    };
    let kinds: Vec<_> = facts(FactKind::ReviewRequested)
        .map(|(_, kind, _)| kind)
        .collect();
    let expected = [SubjectKind::User, SubjectKind::Bot, SubjectKind::Team].map(Some);
    assert_eq!(kinds, expected);
    let head = Some(found.pull_request.branches.clone().unwrap().head_sha);
    // A push that is not forced is in no answer of GitHub; its commit is.
    let pushed: Vec<_> = facts(FactKind::Pushed).collect();
    assert_eq!(pushed, [(at(5), None, head.clone())]);
    let committed: Vec<_> = facts(FactKind::Committed).collect();
    assert_eq!(
        committed,
        [(at(5), None, head)],
        "none from before its creation"
    );
    let dates = found.commits.unwrap();
    assert_eq!(
        (dates.first, dates.first_authored, dates.first_committed),
        (Some(at(-20)), Some(at(-20)), Some(at(-10)))
    );
    assert_eq!(
        (dates.last_authored, dates.last_committed),
        (Some(at(4)), Some(at(5)))
    );
    let commits = &found.commit_list;
    assert_eq!(commits.len(), 2);
    assert_eq!(commits[1].author.as_ref().unwrap().id.0, 3);
    assert_eq!(commits[1].co_authors, ["noreply@anthropic.com"]);
    // Without the setting the list is not fetched, and what GitHub's timeline has is.
    let found = fetched(&client, number, false).await;
    assert_eq!((found.commits, found.commit_list.len()), (None, 0));
    let committed = found
        .timeline
        .iter()
        .filter(|fact| fact.kind == FactKind::Committed);
    assert_eq!(committed.count(), 1);
    github.stop().await;
}

#[tokio::test]
async fn state_of_a_merge_is_what_required_checks_and_github_say() {
    let run = |required, started: Option<i64>, ended: Option<(i64, &'static str)>| Check::Run {
        required,
        started_at: started.map(at),
        completed: ended.map(|(minutes, conclusion)| (at(minutes), conclusion)),
    };
    let status = |required, minutes, state| Check::Status {
        required,
        created_at: at(minutes),
        state,
    };
    let (github, client, _) = fake().await;
    let number = opened(&github);
    for (checks, failed, pending) in [
        (vec![], None, None),
        (vec![run(true, Some(6), Some((7, "SUCCESS")))], None, None),
        (
            vec![
                run(true, Some(6), Some((9, "FAILURE"))),
                run(true, Some(6), Some((8, "TIMED_OUT"))),
                status(true, 10, "ERROR"),
            ],
            Some(8),
            None,
        ),
        (
            vec![status(true, 7, "PENDING"), run(true, Some(6), None)],
            None,
            Some(6),
        ),
        // One that waits for its turn has not started: no later than the last update.
        (vec![run(true, None, None)], None, Some(5)),
        // One that is not required blocks nothing.
        (
            vec![
                run(false, Some(6), Some((9, "FAILURE"))),
                status(false, 9, "PENDING"),
            ],
            None,
            None,
        ),
        (
            vec![
                run(true, Some(6), Some((9, "SKIPPED"))),
                status(true, 7, "SUCCESS"),
            ],
            None,
            None,
        ),
    ] {
        change(&github, number, |pull| pull.checks.clone_from(&checks));
        let state = fetched(&client, number, false).await.merge_state.unwrap();
        assert_eq!(
            (state.required_check_failed_at, state.checks_pending_since),
            (failed.map(at), pending.map(at)),
            "{checks:?}"
        );
    }
    for (decision, expected) in [
        (Some("APPROVED"), Some(ReviewDecision::Approved)),
        (
            Some("REVIEW_REQUIRED"),
            Some(ReviewDecision::ReviewRequired),
        ),
        (Some("DECIDED_OTHERWISE"), None),
        (None, None),
    ] {
        for conflicting in [None, Some(true), Some(false)] {
            change(&github, number, |pull| {
                (pull.review_decision, pull.conflicting) = (decision, conflicting);
                pull.pr.auto_merge_enabled_by = conflicting.map(|_| people().remove(0));
            });
            let found = fetched(&client, number, false).await;
            let state = found.merge_state.unwrap();
            assert_eq!(
                (state.review_decision, state.conflicting),
                (expected, conflicting)
            );
            let details = found.pull_request.details.unwrap();
            assert_eq!(details.auto_merge, Some(conflicting.is_some()));
            assert_eq!(
                details.author_association,
                Some(AuthorAssociation::Contributor)
            );
        }
    }
    let by = people().remove(0);
    github.world(|world| world.act(OF, number, &by, at(20), &Act::Merge));
    let found = fetched(&client, number, false).await;
    assert_eq!(found.merge_state, None, "it is not open");
    let merge = found.pull_request.details.unwrap().merge_commit_sha;
    assert!(merge.is_some());
    github.stop().await;
}

#[tokio::test]
async fn refused_parts_leave_the_rest_known() {
    for (refused, unknown) in [
        ("reviewDecision", "decision on the reviews"),
        ("autoMergeRequest", "auto-merge"),
        ("statusCheckRollup", "required checks"),
        ("on Team", "teams"),
    ] {
        let (github, client, _) = fake().await;
        let number = opened(&github);
        change(&github, number, |pull| pull.conflicting = Some(true));
        let error = json!({"message": format!("Field '{refused}' doesn't exist on type 'X'")});
        github.refuse(refused, error);
        let found = fetched(&client, number, false).await;
        let state = found.merge_state.unwrap();
        assert_eq!(state.conflicting, Some(true), "{refused}");
        let facts = client.unknown_facts();
        assert!(facts.len() == 1 && facts[0].contains(unknown), "{facts:?}");
        // Without the teams it is not known who is asked.
        let is_known = found.pull_request.requested.is_some();
        assert_eq!(is_known, refused != "on Team", "{refused}");
        github.stop().await;
    }
}

#[tokio::test]
async fn page_of_fifty_pull_requests_costs_three_points() {
    let (github, client, _) = fake().await;
    let growth = Growth {
        seed: 3,
        pulls: 60,
        ties: false,
        until: Utc::now().into(),
    };
    github.world(|world| drop(world.grow(OF, growth)));
    let page = client.pull_request_page(OF, 50, None, true).await.unwrap();
    assert_eq!(page.pull_requests.complete.len(), 50);
    let costs: Vec<_> = github
        .requests()
        .iter()
        .map(|request| request.cost)
        .collect();
    assert_eq!(costs, [3]);
    // A batch of the poller, with the checks.
    let numbers: Vec<_> = (1..=10).map(PrNumber).collect();
    client
        .pull_requests_by_number(OF, &numbers, true)
        .await
        .unwrap();
    assert_eq!(github.requests().last().unwrap().cost, 1);
    github.stop().await;
}
