//! Organizations and memberships, with lists that are partial.

use tallyhook_github_client::hooks::GithubName;
use tallyhook_github_client::{Client, GithubError, MembershipState};
use testkit::github::{FakeGithub, Rights};

use super::{fake, token};

/// Returns a fake GitHub with two organizations of `octocat`, and a client of their classic token.
async fn with_organizations() -> (FakeGithub, Client) {
    let (github, client, _) = fake().await;
    for (id, name) in [(900, "acme-corp"), (901, "umbrella")] {
        github.add_organization(id, name);
        github.organization(name, |known| known.seat("octocat", "active", "member"));
    }
    github.give_to("octocat", "ghp_octocat", Some(&["read:org"]));
    let person = client.account("octocat", token("ghp_octocat"));
    (github, person)
}

fn name(text: &str) -> GithubName {
    text.parse().unwrap()
}

#[tokio::test]
async fn list_without_an_organization_of_single_sign_on_says_which_is_missing() {
    let (github, person) = with_organizations().await;
    let logins = async |person: &Client| {
        let list = person.user_organizations().await.unwrap();
        let logins: Vec<_> = list.items.into_iter().map(|known| known.login).collect();
        (
            logins,
            list.missing_sso.into_iter().collect::<Vec<_>>(),
            list.is_unknown,
        )
    };
    let both = vec!["acme-corp".to_owned(), "umbrella".to_owned()];
    assert_eq!(logins(&person).await, (both.clone(), vec![], false));

    github.organization("umbrella", |known| known.wants_sso = true);
    assert_eq!(
        logins(&person).await,
        (vec!["acme-corp".to_owned()], vec![901], false)
    );
    github.organization("acme-corp", |known| known.wants_sso = true);
    assert_eq!(logins(&person).await, (vec![], vec![900, 901], false));
    github.authorize_sso("ghp_octocat", "acme-corp");
    github.authorize_sso("ghp_octocat", "umbrella");
    assert_eq!(logins(&person).await, (both, vec![], false));
    github.stop().await;
}

#[tokio::test]
async fn empty_list_of_a_fine_grained_token_is_unknown_and_not_none() {
    let (github, person) = with_organizations().await;
    github.give_to("octocat", "github_pat_octocat", None);
    let fine_grained = person.account("fine", token("github_pat_octocat"));
    let list = fine_grained.user_organizations().await.unwrap();
    assert!(list.items.is_empty() && list.is_unknown);

    github.give_to("hubot", "ghp_hubot", Some(&["read:org"]));
    let other = person.account("hubot", token("ghp_hubot"));
    let none = other.user_organizations().await.unwrap();
    assert!(none.items.is_empty() && !none.is_unknown);
    github.stop().await;
}

#[tokio::test]
async fn organizations_are_fetched_to_the_last_page() {
    let (github, person) = with_organizations().await;
    for number in 0..150 {
        let name = format!("organization-{number}");
        github.add_organization(1000 + number, &name);
        github.organization(&name, |known| known.seat("octocat", "active", "member"));
    }
    github.asked();
    let list = person.user_organizations().await.unwrap();
    assert_eq!(list.items.len(), 152);
    assert_eq!(github.asked().len(), 2);
    github.stop().await;
}

#[tokio::test]
async fn invitation_is_no_membership() {
    let (github, person) = with_organizations().await;
    github.organization("acme-corp", |known| {
        known.seat("hubot", "pending", "member");
        known.seat("octocat", "active", "admin");
        known.seat_in_team("backend", "octocat", "active");
        known.seat_in_team("backend", "hubot", "pending");
    });
    let acme = name("acme-corp");
    let seat = async |login: &str| {
        let login = name(login);
        let membership = person.organization_membership(&acme, &login);
        membership.await.unwrap()
    };
    let own = seat("octocat").await.unwrap();
    assert!(own.is_active() && own.role == "admin");
    assert_eq!(own.organization.unwrap().id, 900);
    let invited = seat("hubot").await.unwrap();
    assert!(!invited.is_active() && invited.state == MembershipState::Pending);
    assert_eq!(seat("stranger").await, None);

    let in_team = async |team: &str, login: &str| {
        let (team, login) = (name(team), name(login));
        let membership = person.team_membership(&acme, &team, &login);
        membership
            .await
            .unwrap()
            .map(|membership| membership.is_active())
    };
    assert_eq!(in_team("backend", "octocat").await, Some(true));
    assert_eq!(in_team("backend", "hubot").await, Some(false));
    assert_eq!(in_team("backend", "stranger").await, None);
    assert_eq!(in_team("frontend", "octocat").await, None);

    let seats = person.user_memberships().await.unwrap();
    let seats: Vec<_> = seats
        .items
        .iter()
        .map(|seat| (seat.is_active(), seat.role.as_str()))
        .collect();
    assert_eq!(seats, [(true, "admin"), (true, "member")]);
    github.stop().await;
}

#[tokio::test]
async fn account_that_is_no_member_learns_nothing_of_others() {
    let (github, person) = with_organizations().await;
    github.give_to("hubot", "ghp_hubot", Some(&["read:org"]));
    let outsider = person.account("hubot", token("ghp_hubot"));
    let (acme, octocat) = (name("acme-corp"), name("octocat"));
    let membership = outsider.organization_membership(&acme, &octocat);
    let error = membership.await.unwrap_err();
    assert!(
        matches!(&error, GithubError::Forbidden { message, .. }
            if message == "You must be a member of this organization to see membership information."),
        "{error}"
    );
    github.stop().await;
}

#[tokio::test]
async fn identity_of_a_token_has_its_person_scopes_and_expiry() {
    let (github, client, time) = fake().await;
    github.give_to("octocat", "ghp_octocat", Some(&["repo", "read:org"]));
    github.give_to("octocat", "github_pat_octocat", None);
    let end = time.now() + chrono::TimeDelta::days(30);
    github.expires("github_pat_octocat", end);
    let classic = client.account("classic", token("ghp_octocat"));
    let classic = classic.token_identity().await.unwrap();
    assert_eq!((classic.user.id, classic.expires_at), (42, None));
    assert_eq!(classic.scopes.unwrap(), ["repo", "read:org"]);
    let fine = client.account("fine", token("github_pat_octocat"));
    let fine = fine.token_identity().await.unwrap();
    assert_eq!((fine.scopes, fine.expires_at), (None, Some(end)));

    // The login is given to another account: the id says who it is.
    github.rename_person("octocat", "octocat-before");
    github.rename_person("hubot", "octocat");
    github.give("ghp_unused", Rights::Read);
    github.give_to("octocat", "ghp_another", Some(&[]));
    let another = client
        .account("another", token("ghp_another"))
        .user()
        .await
        .unwrap();
    assert_eq!((another.id, another.login.as_str()), (43, "octocat"));
    github.stop().await;
}
