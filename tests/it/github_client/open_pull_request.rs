//! Opening a pull request: once, although requests fail on the way, and every refusal.

use serde_json::{Value, json};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_github_client::open_pull_request::{
    NewPullRequest, OpenPullRequestError, OpenedPullRequest,
};
use tallyhook_github_client::{Client, Clock, Credentials, GithubError, Token};

use super::fake;
use testkit::github::growth::people;
use testkit::github::world::{Opening, Repository};
use testkit::github::{FakeGithub, Fault, Rights};
use testkit::payloads::HeadRepo;

const NAME: &str = "acme-corp/api-server";
const STORY: NewPullRequest<'_> = NewPullRequest {
    head: "story-456/a&b",
    base: None,
    title: "Add a door",
    body: "Closes story-456.",
    draft: false,
};

fn at(second: i64) -> Timestamp {
    Timestamp::clamped(1_772_445_600 + second)
}

/// A GitHub whose repository has a branch with two commits.
async fn with_branch() -> (FakeGithub, Client) {
    let (github, client, _) = fake().await;
    change(&github, |repository| {
        repository.push(STORY.head, &[at(0), at(1)])
    });
    (github, client)
}

fn change(github: &FakeGithub, how: impl FnOnce(&mut Repository)) {
    github.world(|world| how(world.repository(NAME)));
}

fn open(github: &FakeGithub) -> usize {
    github.world(|world| {
        world
            .repository(NAME)
            .pulls
            .values()
            .filter(|pull| pull.is_open())
            .count()
    })
}

fn first(created: bool) -> OpenedPullRequest {
    let key = PrKey {
        repo: RepoId(7),
        number: PrNumber(1),
    };
    OpenedPullRequest {
        key,
        html_url: "https://github.com/acme-corp/api-server/pull/1".to_owned(),
        created,
    }
}

fn client_of(github: &FakeGithub, token: &str) -> Client {
    let patience = std::time::Duration::from_secs(30);
    Client::with(
        github.api(),
        Credentials::Token(Token::parse(token).unwrap()),
        Clock::System,
        patience,
    )
    .unwrap()
}

#[tokio::test]
async fn pull_request_is_opened_once_and_found_afterwards() {
    let (github, client) = with_branch().await;
    assert_eq!(
        client.open_pull_request(NAME, &STORY).await,
        Ok(first(true))
    );
    let requests = github.requests();
    assert_eq!(
        requests[1].path,
        "/repos/acme-corp/api-server/pulls?state=open&head=acme-corp%3Astory-456%2Fa%26b&base=main"
    );
    let sent: Value = serde_json::from_str(&requests[2].body).unwrap();
    let head = "acme-corp:story-456/a&b";
    let expected = json!({
        "head": head,
        "base": "main",
        "title": STORY.title,
        "body": STORY.body,
        "draft": false,
    });
    assert_eq!((requests.len(), sent), (3, expected));

    for head in [STORY.head, head, "ACME-corp:story-456/a&b"] {
        assert_eq!(
            client
                .open_pull_request(NAME, &NewPullRequest { head, ..STORY })
                .await,
            Ok(first(false)),
            "{head}"
        );
    }
    github.rename(NAME, "acme/server");
    let found = client.open_pull_request(NAME, &STORY).await.unwrap();
    assert_eq!(
        (found.created, found.html_url.as_str()),
        (false, "https://github.com/acme/server/pull/1")
    );
    assert!(!github.asked().iter().any(|asked| asked.starts_with("POST")));
    github.stop().await;
}

#[tokio::test]
async fn another_base_another_fork_or_a_closed_one_is_another_pull_request() {
    let (github, client) = with_branch().await;
    let created = async |new: NewPullRequest<'_>| {
        client
            .open_pull_request(NAME, &new)
            .await
            .map(|OpenedPullRequest { key, created, .. }| (key.number.0, created))
    };
    change(&github, |repository| {
        repository.push("release", &[at(0)]);
        repository.push("outsider:story-456/a&b", &[at(2)]);
    });
    assert_eq!(created(STORY).await, Ok((1, true)));
    assert_eq!(
        created(NewPullRequest {
            base: Some("release"),
            draft: true,
            ..STORY
        })
        .await,
        Ok((2, true))
    );
    assert_eq!(
        created(NewPullRequest {
            head: "outsider:story-456/a&b",
            ..STORY
        })
        .await,
        Ok((3, true))
    );
    assert_eq!(
        created(NewPullRequest {
            base: Some("release"),
            ..STORY
        })
        .await,
        Ok((2, false))
    );
    change(&github, |repository| {
        repository
            .pulls
            .get_mut(&1)
            .unwrap()
            .pr
            .close(&at(9).to_string())
    });
    assert_eq!(created(STORY).await, Ok((4, true)));
    let stored = github.world(|world| world.repository(NAME).pulls[&2].pr.clone());
    assert_eq!(
        (
            stored.draft,
            stored.base_ref.as_str(),
            stored.body.as_deref()
        ),
        (true, "release", Some(STORY.body))
    );
    github.stop().await;
}

#[tokio::test]
async fn every_refusal_names_the_next_step() {
    let (github, client) = with_branch().await;
    change(&github, |repository| {
        repository.push("merged", &[]);
        repository.without_drafts = true;
    });
    let repo = || NAME.to_owned();
    let text = |text: &str| text.to_owned();
    let head = |branch: &str| format!("acme-corp:{branch}");
    for (new, expected) in [
        (
            NewPullRequest {
                head: "gone",
                ..STORY
            },
            OpenPullRequestError::HeadMissing {
                repo: repo(),
                head: head("gone"),
            },
        ),
        (
            NewPullRequest {
                head: "nobody:x",
                ..STORY
            },
            OpenPullRequestError::HeadMissing {
                repo: repo(),
                head: text("nobody:x"),
            },
        ),
        (
            NewPullRequest {
                base: Some("gone"),
                ..STORY
            },
            OpenPullRequestError::BaseMissing {
                repo: repo(),
                base: text("gone"),
            },
        ),
        (
            NewPullRequest {
                head: "merged",
                ..STORY
            },
            OpenPullRequestError::NoNewCommits {
                head: head("merged"),
                base: text("main"),
            },
        ),
        (
            NewPullRequest {
                head: "main",
                ..STORY
            },
            OpenPullRequestError::NoNewCommits {
                head: head("main"),
                base: text("main"),
            },
        ),
        (
            NewPullRequest {
                draft: true,
                ..STORY
            },
            OpenPullRequestError::DraftsNotSupported { repo: repo() },
        ),
        (
            NewPullRequest { title: "", ..STORY },
            OpenPullRequestError::Refused {
                reason: text("Validation Failed: title: missing_field"),
            },
        ),
        (
            NewPullRequest {
                title: &"a".repeat(257),
                ..STORY
            },
            OpenPullRequestError::Refused {
                reason: text("Validation Failed: title is too long (maximum is 256 characters)"),
            },
        ),
        (
            NewPullRequest {
                head: "-f",
                ..STORY
            },
            OpenPullRequestError::InvalidBranchName { name: text("-f") },
        ),
        (
            NewPullRequest {
                head: "a/b:c",
                ..STORY
            },
            OpenPullRequestError::InvalidBranchName {
                name: text("a/b:c"),
            },
        ),
        (
            NewPullRequest {
                base: Some("a\nb"),
                ..STORY
            },
            OpenPullRequestError::InvalidBranchName { name: text("a\nb") },
        ),
    ] {
        let refused = client.open_pull_request(NAME, &new).await.unwrap_err();
        assert_eq!(refused, expected, "{new:?}");
        assert!(!refused.to_string().contains('\n'), "{refused}");
    }
    let nowhere = client.open_pull_request("acme-corp/other", &STORY).await;
    assert_eq!(
        nowhere,
        Err(OpenPullRequestError::RepositoryMissing {
            repo: text("acme-corp/other")
        })
    );

    change(&github, |repository| repository.archived = true);
    assert_eq!(
        client.open_pull_request(NAME, &STORY).await,
        Err(OpenPullRequestError::RepositoryArchived { repo: repo() })
    );
    // It is archived between the first request and the POST.
    github.between(3, |world| world.repository(NAME).archived = true);
    change(&github, |repository| repository.archived = false);
    assert_eq!(
        client.open_pull_request(NAME, &STORY).await,
        Err(OpenPullRequestError::RepositoryArchived { repo: repo() })
    );
    assert_eq!(open(&github), 0);
    github.stop().await;
}

#[tokio::test]
async fn read_only_token_gets_the_missing_permission() {
    let (github, _) = with_branch().await;
    github.give("fine", Rights::FineGrained);
    github.give("reader", Rights::Read);
    let forbidden = |permission: &str| OpenPullRequestError::Forbidden {
        repo: NAME.to_owned(),
        permission: permission.to_owned(),
    };
    let of = |token: &'static str| client_of(&github, token);
    let fine = of("fine").open_pull_request(NAME, &STORY).await;
    assert_eq!(fine, Err(forbidden("the permission pull_requests=write")));
    let reader = of("reader").open_pull_request(NAME, &STORY).await;
    assert_eq!(
        reader,
        Err(forbidden(
            "the scope repo, or the permission pull_requests=write"
        ))
    );
    let unknown = of("unknown")
        .open_pull_request(NAME, &STORY)
        .await
        .unwrap_err();
    assert!(
        matches!(
            unknown,
            OpenPullRequestError::Github(GithubError::Unauthorized { .. })
        ),
        "{unknown}"
    );
    github.stop().await;
}

#[tokio::test]
async fn second_of_two_concurrent_calls_gets_the_pull_request_of_the_first() {
    let (github, client) = with_branch().await;
    github.between(3, |world| {
        let (author, title, branch) = (&people()[0], "By another person", STORY.head);
        let head_repo = HeadRepo::Same;
        world.open(
            NAME,
            &Opening {
                author,
                title,
                branch,
                head_repo,
                draft: false,
                at: at(9),
                commits: &[],
            },
        );
    });
    assert_eq!(
        client.open_pull_request(NAME, &STORY).await,
        Ok(first(false))
    );
    assert_eq!(open(&github), 1);

    change(&github, |repository| repository.push("other", &[at(5)]));
    let other = NewPullRequest {
        head: "other",
        ..STORY
    };
    let both = tokio::join!(
        client.open_pull_request(NAME, &other),
        client.open_pull_request(NAME, &other)
    );
    let (one, two) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!((one.key, one.created != two.created), (two.key, true));
    assert_eq!(open(&github), 2);
    github.stop().await;
}

#[tokio::test]
async fn lost_response_is_resolved_by_listing_open_pull_requests() {
    let (github, client) = with_branch().await;
    let posts = |asked: Vec<String>| {
        asked
            .iter()
            .filter(|asked| asked.starts_with("POST"))
            .count()
    };
    github.next([Fault::None, Fault::None, Fault::Lost(502)]);
    assert_eq!(
        client.open_pull_request(NAME, &STORY).await,
        Ok(first(true))
    );
    assert_eq!((open(&github), posts(github.asked())), (1, 1));

    // The pull request was not created, or the list does not show it yet.
    change(&github, |repository| repository.pulls.clear());
    for fault in [Fault::status(502), Fault::Truncated] {
        github.next([Fault::None, Fault::None, fault]);
        let error = client.open_pull_request(NAME, &STORY).await.unwrap_err();
        assert!(
            matches!(
                error,
                OpenPullRequestError::Github(GithubError::Unknown { .. })
            ),
            "{error}"
        );
        assert_eq!((open(&github), posts(github.asked())), (0, 1));
    }
    github.stop().await;
}

#[tokio::test]
async fn pull_request_between_other_branches_is_not_the_wanted_one() {
    let (github, client) = with_branch().await;
    let stranger = json!([{"number": 9, "html_url": "x", "head": {"label": "acme-corp:other"},
        "base": {"ref": "main", "repo": {"id": 7}}}]);
    github.next([Fault::None, Fault::answer(200, &[], &stranger.to_string())]);
    assert_eq!(
        client.open_pull_request(NAME, &STORY).await,
        Ok(first(true))
    );
    github.stop().await;
}
