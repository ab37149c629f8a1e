//! Pull requests that are opened once, whatever comes in between, and every reason why they are not.

use serde_json::{Value, json};
use tallyhook_core::github::types::{PrKey, PrNumber, RepoId, Timestamp};
use tallyhook_github_client::creation::{NewPull, NotOpened, Opened};
use tallyhook_github_client::{Client, Clock, Credentials, GithubError, Token};

use crate::fake;
use crate::github::growth::people;
use crate::github::world::{Opening, Repository};
use crate::github::{FakeGithub, Fault, Rights};
use crate::support::payloads::HeadRepo;

const NAME: &str = "acme-corp/api-server";
const STORY: NewPull<'_> = NewPull {
    head: "story-456/a&b",
    base: None,
    title: "Add a door",
    body: "Closes story-456.",
    draft: false,
};

fn at(second: i64) -> Timestamp {
    Timestamp::clamped(1_772_445_600 + second)
}

/// One whose repository has a branch with two commits.
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

fn first(created: bool) -> Opened {
    let key = PrKey {
        repo: RepoId(7),
        number: PrNumber(1),
    };
    Opened {
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
async fn a_pull_request_is_opened_once_and_found_from_then_on() {
    let (github, client) = with_branch().await;
    assert_eq!(client.create_pull(NAME, &STORY).await, Ok(first(true)));
    let requests = github.requests();
    assert_eq!(
        requests[1].path,
        "/repos/acme-corp/api-server/pulls?state=open&head=acme-corp%3Astory-456%2Fa%26b&base=main"
    );
    let sent: Value = serde_json::from_str(&requests[2].body).unwrap();
    let head = "acme-corp:story-456/a&b";
    let expected = json!({"head": head, "base": "main", "title": STORY.title, "body": STORY.body, "draft": false});
    assert_eq!((requests.len(), sent), (3, expected));

    for head in [STORY.head, head, "ACME-corp:story-456/a&b"] {
        assert_eq!(
            client.create_pull(NAME, &NewPull { head, ..STORY }).await,
            Ok(first(false)),
            "{head}"
        );
    }
    github.rename(NAME, "acme/server");
    let found = client.create_pull(NAME, &STORY).await.unwrap();
    assert_eq!(
        (found.created, found.html_url.as_str()),
        (false, "https://github.com/acme/server/pull/1")
    );
    assert!(!github.asked().iter().any(|asked| asked.starts_with("POST")));
    github.stop().await;
}

#[tokio::test]
async fn another_base_another_fork_and_one_that_was_closed_are_each_another_pull_request() {
    let (github, client) = with_branch().await;
    let created = async |new: NewPull<'_>| {
        client
            .create_pull(NAME, &new)
            .await
            .map(|Opened { key, created, .. }| (key.number.0, created))
    };
    change(&github, |repository| {
        repository.push("release", &[at(0)]);
        repository.push("outsider:story-456/a&b", &[at(2)]);
    });
    assert_eq!(created(STORY).await, Ok((1, true)));
    assert_eq!(
        created(NewPull {
            base: Some("release"),
            draft: true,
            ..STORY
        })
        .await,
        Ok((2, true))
    );
    assert_eq!(
        created(NewPull {
            head: "outsider:story-456/a&b",
            ..STORY
        })
        .await,
        Ok((3, true))
    );
    assert_eq!(
        created(NewPull {
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
    let told = github.world(|world| world.repository(NAME).pulls[&2].pr.clone());
    assert_eq!(
        (told.draft, told.base_ref.as_str(), told.body.as_deref()),
        (true, "release", Some(STORY.body))
    );
    github.stop().await;
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
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
            NewPull {
                head: "gone",
                ..STORY
            },
            NotOpened::HeadMissing {
                repo: repo(),
                head: head("gone"),
            },
        ),
        (
            NewPull {
                head: "nobody:x",
                ..STORY
            },
            NotOpened::HeadMissing {
                repo: repo(),
                head: text("nobody:x"),
            },
        ),
        (
            NewPull {
                base: Some("gone"),
                ..STORY
            },
            NotOpened::BaseMissing {
                repo: repo(),
                base: text("gone"),
            },
        ),
        (
            NewPull {
                head: "merged",
                ..STORY
            },
            NotOpened::NothingNew {
                head: head("merged"),
                base: text("main"),
            },
        ),
        (
            NewPull {
                head: "main",
                ..STORY
            },
            NotOpened::NothingNew {
                head: head("main"),
                base: text("main"),
            },
        ),
        (
            NewPull {
                draft: true,
                ..STORY
            },
            NotOpened::DraftsNotSupported { repo: repo() },
        ),
        (
            NewPull { title: "", ..STORY },
            NotOpened::Refused {
                why: text("Validation Failed: title: missing_field"),
            },
        ),
        (
            NewPull {
                title: &"a".repeat(257),
                ..STORY
            },
            NotOpened::Refused {
                why: text("Validation Failed: title is too long (maximum is 256 characters)"),
            },
        ),
        (
            NewPull {
                head: "-f",
                ..STORY
            },
            NotOpened::NoBranchName { name: text("-f") },
        ),
        (
            NewPull {
                head: "a/b:c",
                ..STORY
            },
            NotOpened::NoBranchName {
                name: text("a/b:c"),
            },
        ),
        (
            NewPull {
                base: Some("a\nb"),
                ..STORY
            },
            NotOpened::NoBranchName { name: text("a\nb") },
        ),
    ] {
        let refused = client.create_pull(NAME, &new).await.unwrap_err();
        assert_eq!(refused, expected, "{new:?}");
        assert!(!refused.to_string().contains('\n'), "{refused}");
    }
    let nowhere = client.create_pull("acme-corp/other", &STORY).await;
    assert_eq!(
        nowhere,
        Err(NotOpened::RepositoryMissing {
            repo: text("acme-corp/other")
        })
    );

    change(&github, |repository| repository.archived = true);
    assert_eq!(
        client.create_pull(NAME, &STORY).await,
        Err(NotOpened::ReadOnly { repo: repo() })
    );
    // It was archived a moment ago.
    github.between(3, |world| world.repository(NAME).archived = true);
    change(&github, |repository| repository.archived = false);
    assert_eq!(
        client.create_pull(NAME, &STORY).await,
        Err(NotOpened::ReadOnly { repo: repo() })
    );
    assert_eq!(open(&github), 0);
    github.stop().await;
}

#[tokio::test]
async fn a_token_that_may_only_read_is_told_what_it_lacks() {
    let (github, _) = with_branch().await;
    github.give("fine", Rights::FineGrained);
    github.give("reader", Rights::Read);
    let forbidden = |needed: &str| NotOpened::Forbidden {
        repo: NAME.to_owned(),
        needed: needed.to_owned(),
    };
    let of = |token: &'static str| client_of(&github, token);
    let fine = of("fine").create_pull(NAME, &STORY).await;
    assert_eq!(fine, Err(forbidden("the permission pull_requests=write")));
    let reader = of("reader").create_pull(NAME, &STORY).await;
    assert_eq!(
        reader,
        Err(forbidden(
            "the scope repo, or the permission pull_requests=write"
        ))
    );
    let nobody = of("nobody").create_pull(NAME, &STORY).await.unwrap_err();
    assert!(
        matches!(nobody, NotOpened::Github(GithubError::Unauthorized { .. })),
        "{nobody}"
    );
    github.stop().await;
}

#[tokio::test]
async fn who_comes_second_gets_what_the_first_has_opened() {
    let (github, client) = with_branch().await;
    github.between(3, |world| {
        let (author, title, branch) = (&people()[0], "By somebody else", STORY.head);
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
    assert_eq!(client.create_pull(NAME, &STORY).await, Ok(first(false)));
    assert_eq!(open(&github), 1);

    change(&github, |repository| repository.push("other", &[at(5)]));
    let other = NewPull {
        head: "other",
        ..STORY
    };
    let both = tokio::join!(
        client.create_pull(NAME, &other),
        client.create_pull(NAME, &other)
    );
    let (one, two) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!((one.key, one.created != two.created), (two.key, true));
    assert_eq!(open(&github), 2);
    github.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_is_made_good_by_looking() {
    let (github, client) = with_branch().await;
    let posts = |asked: Vec<String>| {
        asked
            .iter()
            .filter(|asked| asked.starts_with("POST"))
            .count()
    };
    github.next([Fault::None, Fault::None, Fault::Lost(502)]);
    assert_eq!(client.create_pull(NAME, &STORY).await, Ok(first(true)));
    assert_eq!((open(&github), posts(github.asked())), (1, 1));

    // Nothing was done, or nothing can be seen of it yet.
    change(&github, |repository| repository.pulls.clear());
    for fault in [Fault::status(502), Fault::Truncated] {
        github.next([Fault::None, Fault::None, fault]);
        let error = client.create_pull(NAME, &STORY).await.unwrap_err();
        assert!(
            matches!(error, NotOpened::Github(GithubError::Unreachable { .. })),
            "{error}"
        );
        assert_eq!((open(&github), posts(github.asked())), (0, 1));
    }
    github.stop().await;
}

#[tokio::test]
async fn a_pull_request_between_others_is_not_taken_for_the_wanted_one() {
    let (github, client) = with_branch().await;
    let stranger = json!([{"number": 9, "html_url": "x", "head": {"label": "acme-corp:other"},
        "base": {"ref": "main", "repo": {"id": 7}}}]);
    github.next([Fault::None, Fault::answer(200, &[], &stranger.to_string())]);
    assert_eq!(client.create_pull(NAME, &STORY).await, Ok(first(true)));
    github.stop().await;
}
