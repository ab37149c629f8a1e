//! Refusals that are none of the token's rights: rules of organizations, and blocks.

use serde_json::{Value, json};
use tallyhook_github_client::{ForbiddenReason, GithubError};
use testkit::github::Fault;

use super::{REPO, fake, seconds, token};

const IP_ALLOW_LIST: &str = "Although you appear to have the correct authorization credentials, \
    the `acme-corp` organization has an IP allow list enabled, and your IP address is not \
    permitted to access this resource.";
const OAUTH_RESTRICTION: &str = "Although you appear to have the correct authorization \
    credentials, the `acme-corp` organization has enabled OAuth App access restrictions, meaning \
    that data access to third-parties is limited.";
const SAML: &str = "Resource protected by organization SAML enforcement. You must grant your \
    Personal Access token access to this organization.";

#[tokio::test]
async fn rule_of_an_organization_is_no_rate_limit_whatever_the_headers_say() {
    let (github, client, time) = fake().await;
    let used_up = [
        ("X-RateLimit-Remaining", "0"),
        ("X-RateLimit-Reset", "99999999999"),
    ];
    let soon = [("Retry-After", "60")];
    for (message, expected, words) in [
        (
            IP_ALLOW_LIST,
            ForbiddenReason::IpAllowList,
            "add the address of this server",
        ),
        (
            OAUTH_RESTRICTION,
            ForbiddenReason::OauthRestriction,
            "approve the OAuth App",
        ),
        (
            "This installation has been suspended",
            ForbiddenReason::Suspended,
            "unsuspend",
        ),
        (
            "Sorry. Your account was suspended",
            ForbiddenReason::Suspended,
            "unsuspend",
        ),
    ] {
        for headers in [&[][..], &used_up[..], &soon[..]] {
            github.next([Fault::message(403, headers, message)]);
            let error = client.get::<Value>(REPO).await.unwrap_err();
            let GithubError::Forbidden { reason, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(reason, &expected);
            assert!(error.to_string().contains(words), "{error}");
        }
        let forbidden = json!({"data": {"repository": null}, "errors": [
            {"type": "FORBIDDEN", "path": ["repository"], "message": message},
        ]});
        github.next([Fault::answer(200, &[], &forbidden.to_string())]);
        let variables = json!({});
        let query = client.graphql::<Value>("{ x }", &variables, "acme-corp/api-server");
        let error = query.await.unwrap_err();
        assert!(
            matches!(&error, GithubError::Forbidden { reason, .. } if *reason == expected),
            "{error}"
        );
    }
    assert_eq!(seconds(&time), [0; 0]);
    github.stop().await;
}

#[tokio::test]
async fn organization_keeps_out_tokens_by_its_rules_and_lets_others_in() {
    let (github, client, _) = fake().await;
    github.add_organization(900, "acme-corp");
    github.give_to("octocat", "gho_octocat", Some(&["repo"]));
    github.give_to("octocat", "ghp_octocat", Some(&["repo"]));
    let oauth = client.account("oauth", token("gho_octocat"));
    let personal = client.account("personal", token("ghp_octocat"));
    let reason = |result: Result<Value, GithubError>| match result {
        Err(GithubError::Forbidden { reason, .. }) => Some(reason),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    };
    github.organization("acme-corp", |known| known.restricts_oauth_apps = true);
    assert_eq!(
        reason(oauth.get(REPO).await),
        Some(ForbiddenReason::OauthRestriction)
    );
    assert_eq!(reason(personal.get(REPO).await), None);
    github.organization("acme-corp", |known| known.has_ip_allow_list = true);
    assert_eq!(
        reason(personal.get(REPO).await),
        Some(ForbiddenReason::IpAllowList)
    );
    assert_eq!(
        personal.user().await.unwrap().id,
        42,
        "nothing else is refused"
    );
    github.stop().await;
}

#[tokio::test]
async fn single_sign_on_is_named_with_a_link_of_githubs_even_behind_a_404() {
    let (github, client, _) = fake().await;
    github.add_organization(900, "acme-corp");
    github.organization("acme-corp", |known| known.wants_sso = true);
    github.give_to("octocat", "ghp_octocat", Some(&["repo"]));
    let person = client.account("octocat", token("ghp_octocat"));
    let link = format!(
        "{}/orgs/acme-corp/sso?authorization_request=A1B2C3",
        github.url
    );
    let required = GithubError::SsoRequired {
        path: REPO.to_owned(),
        message: SAML.to_owned(),
        url: Some(link.clone()),
    };
    assert_eq!(person.get::<Value>(REPO).await.unwrap_err(), required);
    github.authorize_sso("ghp_octocat", "acme-corp");
    person.get::<Value>(REPO).await.unwrap();

    let header = format!("required; url={link}");
    for (status, header, is_sso) in [
        (404, header.as_str(), true),
        (403, "required; url=https://evil.example.com/sso", true),
        (404, "partial-results; organizations=900", false),
    ] {
        github.next([Fault::message(status, &[("X-GitHub-SSO", header)], SAML)]);
        let error = person.get::<Value>(REPO).await.unwrap_err();
        let url = match &error {
            GithubError::SsoRequired { url, .. } => url.as_deref(),
            GithubError::NotFound { .. } if !is_sso => continue,
            _ => panic!("{error}"),
        };
        assert_eq!(url, (status == 404).then_some(link.as_str()));
        assert!(!error.to_string().contains("evil"), "{error}");
    }
    github.stop().await;
}

#[tokio::test]
async fn missing_permission_is_named() {
    let (github, client, _) = fake().await;
    let message = "Resource not accessible by personal access token";
    for (header, value, words) in [
        (
            "X-Accepted-GitHub-Permissions",
            "contents=write",
            "needs the permission contents=write",
        ),
        (
            "X-Accepted-OAuth-Scopes",
            "repo",
            "needs one of the scopes repo",
        ),
        ("X-Other", "x", "give the token or App the right to it"),
    ] {
        github.next([Fault::message(403, &[(header, value)], message)]);
        let error = client.get::<Value>(REPO).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(message), "{error}");
    }
    github.stop().await;
}

#[tokio::test]
async fn block_after_many_refused_tokens_is_waited_for() {
    let (github, client, time) = fake().await;
    let message = "Maximum number of login attempts exceeded. Please try again later.";
    github.next([Fault::message(403, &[], message)]);
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(seconds(&time), [60]);
    github.stop().await;
}

#[tokio::test]
async fn refused_token_that_was_entered_is_named_as_such() {
    let (github, client, _) = fake().await;
    let entered = tallyhook_github_client::Token::entered(&super::secret("ghp_wrong")).unwrap();
    let entered = client.account(
        "entered",
        tallyhook_github_client::Credentials::Token(entered),
    );
    let error = entered.token_identity().await.unwrap_err().to_string();
    assert!(
        error.contains("the token that was entered (Bad credentials)")
            && !error.contains("ghp_wrong"),
        "{error}"
    );
    github.stop().await;
}
