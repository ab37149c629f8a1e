//! Installations as a person sees them, and those that are suspended or gone.

use serde_json::Value;
use tallyhook_core::github::types::InstallationId;
use tallyhook_github_client::{Client, ForbiddenReason, GithubError};
use testkit::github::app::private_key;
use testkit::github::{Consent, FakeGithub};

use super::{REPO, fake, register, sign_in, token};

/// Returns a fake GitHub with the App on two organizations, and a client of `octocat`, who belongs
/// to one of them.
async fn installed() -> (FakeGithub, Client) {
    let (github, client, time) = fake().await;
    github.add_app(&time);
    let app = register(&github);
    for (id, name, installation) in [(900, "acme-corp", 9), (901, "umbrella", 10)] {
        github.add_organization(id, name);
        github.install(name, installation);
    }
    github.organization("acme-corp", |known| {
        known.seat("octocat", "active", "member")
    });
    github.organization("umbrella", |known| {
        known.seat("octocat", "pending", "member")
    });
    github.install("octocat", 11);
    github.browse_as("octocat", Consent::Allow);
    let tokens = sign_in(&github, &client, &app).await;
    let person = client.account("octocat", token(tokens.access_token.expose()));
    (github, person)
}

#[tokio::test]
async fn installation_is_claimed_only_if_the_persons_own_token_lists_it() {
    let (github, person) = installed().await;
    // Another App's, on an account that the person belongs to.
    github.install_app(815, "acme-corp", 12);
    let ids = person.user_installations().await.unwrap();
    let ids: Vec<_> = ids.iter().map(|known| known.id.0).collect();
    assert_eq!(ids, [9, 11]);
    let claimed = async |id, app_id| {
        let found = person.user_installation(InstallationId(id), app_id).await;
        found
            .unwrap()
            .map(|found| found.account.unwrap().login.unwrap())
    };
    assert_eq!(claimed(9, 4711).await.as_deref(), Some("acme-corp"));
    for (id, app_id) in [(10, 4711), (9, 815), (12, 4711), (12, 815), (99, 4711)] {
        assert_eq!(claimed(id, app_id).await, None, "{id} {app_id}");
    }
    github.stop().await;
}

#[tokio::test]
async fn repositories_of_an_installation_are_those_that_were_selected() {
    let (github, person) = installed().await;
    for number in 100..250 {
        github.add_repository(number, &format!("acme-corp/repository-{number}"));
    }
    github.add_repository(8, "umbrella/secret");
    let listed = async |installation| {
        let mut pages = person
            .user_installation_repositories(InstallationId(installation))
            .unwrap();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            names.extend(page.into_iter().map(|known| known.full_name));
        }
        names
    };
    github.asked();
    assert_eq!(listed(9).await.len(), 151);
    assert_eq!(github.asked().len(), 2);
    github.select_repositories(9, &[7]);
    assert_eq!(listed(9).await, ["acme-corp/api-server"]);
    let mut hidden = person
        .user_installation_repositories(InstallationId(10))
        .unwrap();
    let error = hidden.next().await.unwrap_err();
    assert!(matches!(error, GithubError::NotFound { .. }), "{error}");
    github.stop().await;
}

#[tokio::test]
async fn suspended_installation_is_an_error_of_its_own_until_it_is_unsuspended() {
    let (github, client, time) = fake().await;
    github.add_app(&time);
    github.install("acme-corp", 9);
    let (app, _) = github.app_client(&private_key());
    app.get::<Value>(REPO).await.unwrap();
    github.suspend(9, true);
    for fresh in [false, true] {
        // With the token that it has, and when it asks for one.
        let (other, _) = github.app_client(&private_key());
        let app = if fresh { &other } else { &app };
        let error = app.get::<Value>(REPO).await.unwrap_err();
        let GithubError::Forbidden {
            message, reason, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(message, "This installation has been suspended");
        assert_eq!(reason, &ForbiddenReason::Suspended);
        assert!(error.to_string().contains("unsuspend"), "{error}");
        let last = match fresh {
            false => format!("GET {REPO}"),
            true => "POST /app/installations/9/access_tokens".to_owned(),
        };
        assert_eq!(github.asked().pop(), Some(last));
    }
    github.suspend(9, false);
    app.get::<Value>(REPO).await.unwrap();

    github.uninstall(9);
    let error = app.get::<Value>(REPO).await.unwrap_err();
    assert!(
        matches!(error, GithubError::AppNotInstalled { .. }),
        "{error}"
    );
    drop(client);
    github.stop().await;
}
