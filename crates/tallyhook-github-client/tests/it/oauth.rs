//! The web flow and the refresh of tokens, with every error of GitHub's.

use std::time::Duration;

use chrono::TimeDelta;
use tallyhook_core::secret::Secret;
use tallyhook_github_client::{Client, GithubError, OauthCallback, OauthError, UserTokens};
use testkit::github::{Consent, FakeGithub, FakeOauthApp, Fault};

use super::{
    CALLBACK, CLIENT_ID, CLIENT_SECRET, WebFlow, fake, oauth_app, register, secret, sign_in, token,
};

/// Returns the error of an exchange or a refresh.
fn error(result: Result<UserTokens, OauthError>) -> OauthError {
    result.err().expect("tokens")
}

fn expired() -> OauthError {
    OauthError::CodeExpired {
        message: "The code passed is incorrect or expired.".to_owned(),
    }
}

fn refresh_refused() -> OauthError {
    OauthError::RefreshRefused {
        message: "The refresh token passed is incorrect or expired.".to_owned(),
    }
}

/// Returns what the fake was asked, without the pages of browsers.
fn asked(github: &FakeGithub) -> Vec<String> {
    let mut asked = github.asked();
    asked.retain(|asked| !asked.contains("/login/oauth/authorize"));
    asked
}

#[tokio::test]
async fn web_flow_gives_the_expiring_tokens_of_a_github_app() {
    let (github, client, time) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let tokens = sign_in(&github, &client, &app).await;
    assert!(tokens.access_token.expose().starts_with("ghu_"));
    assert!(tokens.refresh_token.unwrap().expose().starts_with("ghr_"));
    assert_eq!(tokens.expires_at, Some(time.now() + TimeDelta::hours(8)));
    let refreshable = TimeDelta::seconds(15_811_200);
    assert_eq!(tokens.refresh_expires_at, Some(time.now() + refreshable));
    assert_eq!(tokens.scopes, [""; 0]);

    let exchange = github.requests().pop().unwrap();
    assert_eq!(
        (exchange.method.as_str(), exchange.path.as_str()),
        ("POST", "/login/oauth/access_token")
    );
    assert_eq!(exchange.header("accept"), "application/json");
    assert_eq!(
        exchange.header("content-type"),
        "application/x-www-form-urlencoded"
    );
    assert_eq!(exchange.header("authorization"), "");

    let person = client.account("octocat", token(tokens.access_token.expose()));
    let user = person.user().await.unwrap();
    assert_eq!((user.id, user.login.as_str()), (42, "octocat"));
    github.stop().await;
}

#[tokio::test]
async fn expiry_is_counted_by_githubs_clock() {
    let (github, client, time) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    github.set_clock_ahead(TimeDelta::minutes(12));
    let tokens = sign_in(&github, &client, &app).await;
    let end = time.now() + TimeDelta::minutes(12) + TimeDelta::hours(8);
    assert_eq!(tokens.expires_at, Some(end));
    github.stop().await;
}

#[tokio::test]
async fn token_of_an_oauth_app_has_the_granted_scopes_and_expires_only_if_github_says_so() {
    let (github, client, time) = fake().await;
    github.add_oauth_app(FakeOauthApp::oauth_app(CLIENT_ID, CLIENT_SECRET, CALLBACK));
    let app = oauth_app(CLIENT_SECRET);
    github.browse_as("octocat", Consent::Only(vec!["read:org".to_owned()]));
    for expires in [false, true] {
        github.change_oauth_app(CLIENT_ID, |app| app.expires = expires);
        let flow = WebFlow::begin(&github, &app, CALLBACK, &["repo", "read:org"]).await;
        let tokens = client.exchange_code(&app, flow.code(), CALLBACK, &flow.verifier);
        let tokens = tokens.await.ok().unwrap();
        assert!(tokens.access_token.expose().starts_with("gho_"));
        assert_eq!(tokens.scopes, ["read:org"]);
        let end = expires.then(|| time.now() + TimeDelta::hours(8));
        assert_eq!(tokens.expires_at, end);
        assert_eq!(tokens.refresh_token.is_some(), expires);
    }
    github.stop().await;
}

#[tokio::test]
async fn code_is_valid_once_for_ten_minutes_and_for_its_own_verifier() {
    let (github, client, time) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);

    let flow = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
    time.pass(Duration::from_secs(599));
    let exchange = |flow: &WebFlow| {
        let code = secret(flow.code().expose());
        let (client, app) = (&client, &app);
        let verifier = secret(flow.verifier.expose());
        async move {
            let verifier = tallyhook_github_client::PkceVerifier::parse(verifier).unwrap();
            client.exchange_code(app, &code, CALLBACK, &verifier).await
        }
    };
    assert!(exchange(&flow).await.is_ok());
    assert_eq!(error(exchange(&flow).await), expired());

    let late = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
    time.pass(Duration::from_secs(600));
    assert_eq!(error(exchange(&late).await), expired());

    // The code of one run with the verifier of another, as after a code was stolen.
    let stolen = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
    let other = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
    let exchanged = client.exchange_code(&app, stolen.code(), CALLBACK, &other.verifier);
    assert_eq!(error(exchanged.await), expired());

    let made_up = secret("0123456789abcdef0123");
    let exchanged = client.exchange_code(&app, &made_up, CALLBACK, &other.verifier);
    assert_eq!(error(exchanged.await), expired());
    github.stop().await;
}

#[tokio::test]
async fn errors_that_arrive_with_status_200_are_errors_and_are_sent_once() {
    let (github, client, _) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let wrong = oauth_app("another_secret");
    let elsewhere = "https://tallyhook.example.com/elsewhere";

    let flow = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
    asked(&github);
    let exchanged = client.exchange_code(&wrong, flow.code(), CALLBACK, &flow.verifier);
    assert_eq!(error(exchanged.await), OauthError::ClientRefused);
    let exchanged = client.exchange_code(&app, flow.code(), elsewhere, &flow.verifier);
    assert_eq!(
        error(exchanged.await),
        OauthError::RedirectMismatch {
            redirect_uri: elsewhere.to_owned()
        }
    );
    let unknown = secret("ghr_unknown");
    let refreshed = client.refresh_tokens(&app, &unknown).await;
    assert_eq!(error(refreshed), refresh_refused());

    github.verify_email("octocat", false);
    let flow = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
    let exchanged = client.exchange_code(&app, flow.code(), CALLBACK, &flow.verifier);
    assert_eq!(error(exchanged.await), OauthError::UnverifiedEmail);
    assert_eq!(asked(&github), ["POST /login/oauth/access_token"; 4]);
    assert_eq!(github.tokens_of("octocat"), [""; 0]);
    github.stop().await;
}

#[tokio::test]
async fn refusal_that_the_browser_brings_back_says_who_has_to_act() {
    let (github, _, _) = fake().await;
    let app = register(&github);
    let refused = async |redirect_uri: &str| {
        let flow = WebFlow::begin(&github, &app, redirect_uri, &[]).await;
        let Some(OauthCallback::Refused { error, state }) = flow.callback else {
            panic!("no refusal");
        };
        assert_eq!(state.unwrap().expose(), flow.state.expose());
        error
    };
    github.browse_as("octocat", Consent::Deny);
    let denied = refused(CALLBACK).await;
    assert_eq!(
        (&denied, denied.is_for_operator()),
        (&OauthError::AccessDenied, false)
    );

    let elsewhere = "https://tallyhook.example.com/github/callback/deeper".to_owned();
    let mismatch = refused(&elsewhere).await;
    let text = mismatch.to_string();
    assert!(text.contains(&format!("enter {elsewhere}")), "{text}");
    assert!(mismatch.is_for_operator());

    github.change_oauth_app(CLIENT_ID, |app| app.is_suspended = true);
    let suspended = refused(CALLBACK).await;
    assert_eq!(
        (&suspended, suspended.is_for_operator()),
        (&OauthError::AppSuspended, true)
    );
    github.stop().await;
}

#[tokio::test]
async fn exchange_whose_answer_is_lost_is_not_repeated_and_its_outcome_is_unknown() {
    let (github, client, time) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let no_json = Fault::answer(200, &[], "<html>a proxy</html>");
    for (fault, issued) in [
        (Fault::Lost(502), 1),
        (Fault::status(500), 0),
        (Fault::Truncated, 0),
        (no_json, 0),
    ] {
        let flow = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
        let before = github.tokens_of("octocat").len();
        asked(&github);
        github.next([fault]);
        let exchanged = client.exchange_code(&app, flow.code(), CALLBACK, &flow.verifier);
        let error = error(exchanged.await);
        assert!(
            matches!(error, OauthError::OutcomeUnknown { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("start again"), "{error}");
        assert_eq!(asked(&github).len(), 1);
        assert_eq!(github.tokens_of("octocat").len() - before, issued);
    }
    assert_eq!(time.waits().len(), 0, "{:?}", time.waits());
    github.stop().await;
}

#[tokio::test]
async fn exchange_that_was_not_processed_may_be_repeated() {
    let (github, client, _) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let flow = WebFlow::begin(&github, &app, CALLBACK, &[]).await;
    github.next([Fault::message(429, &[("Retry-After", "3")], "")]);
    let exchanged = client.exchange_code(&app, flow.code(), CALLBACK, &flow.verifier);
    assert!(exchanged.await.is_ok());

    let unused = "http://127.0.0.1:1".parse().unwrap();
    let nowhere = Client::new(unused, token("ghp_1")).unwrap().once();
    let exchanged = nowhere.exchange_code(&app, flow.code(), CALLBACK, &flow.verifier);
    let error = error(exchanged.await);
    let unreachable = matches!(&error, OauthError::Github(GithubError::Unreachable { .. }));
    assert!(unreachable, "{error}");

    let proxy = "https://cache.example.com/github".parse().unwrap();
    let without_web = Client::new(proxy, token("ghp_1")).unwrap();
    let exchanged = without_web.exchange_code(&app, flow.code(), CALLBACK, &flow.verifier);
    assert_eq!(self::error(exchanged.await), OauthError::UnknownWebSite);
    github.stop().await;
}

#[tokio::test]
async fn form_with_secrets_is_not_sent_on_by_a_redirect() {
    let (github, client, _) = fake().await;
    let app = register(&github);
    for status in [302, 307, 308] {
        github.next([Fault::message(status, &[("Location", "/echo")], "Moved")]);
        let refreshed = client.refresh_tokens(&app, &secret("ghr_1")).await;
        assert!(matches!(
            error(refreshed),
            OauthError::OutcomeUnknown { .. }
        ));
    }
    assert_eq!(github.asked(), ["POST /login/oauth/access_token"; 3]);
    github.stop().await;
}

#[tokio::test]
async fn refresh_ends_both_old_tokens() {
    let (github, client, time) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let old = sign_in(&github, &client, &app).await;
    let old_refresh: Secret = old.refresh_token.unwrap();
    let person = |tokens: &UserTokens| {
        let credentials = token(tokens.access_token.expose());
        client.account("octocat", credentials)
    };
    time.pass(Duration::from_hours(8));
    let old_token = secret(old.access_token.expose());
    let ended = client
        .account("octocat", token(old_token.expose()))
        .user()
        .await;
    assert!(
        matches!(ended, Err(GithubError::Unauthorized { .. })),
        "{ended:?}"
    );

    let new = client
        .refresh_tokens(&app, &old_refresh)
        .await
        .ok()
        .unwrap();
    assert_eq!(new.expires_at, Some(time.now() + TimeDelta::hours(8)));
    assert_ne!(
        new.refresh_token.as_ref().unwrap().expose(),
        old_refresh.expose()
    );
    assert_eq!(person(&new).user().await.unwrap().id, 42);
    assert_eq!(
        error(client.refresh_tokens(&app, &old_refresh).await),
        refresh_refused()
    );

    let newer = client.refresh_tokens(&app, new.refresh_token.as_ref().unwrap());
    let newer = newer.await.ok().unwrap();
    assert!(
        person(&new).user().await.is_err(),
        "a refresh ends a valid token, too"
    );
    assert_eq!(person(&newer).user().await.unwrap().id, 42);

    time.pass(Duration::from_secs(15_811_200));
    let late = client.refresh_tokens(&app, newer.refresh_token.as_ref().unwrap());
    assert_eq!(error(late.await), refresh_refused());
    github.stop().await;
}

#[tokio::test]
async fn failure_of_a_refresh_does_not_say_that_the_token_has_ended() {
    let (github, client, _) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let tokens = sign_in(&github, &client, &app).await;
    let refresh_token = tokens.refresh_token.unwrap();
    for fault in [Fault::status(500), Fault::status(503), Fault::Truncated] {
        github.asked();
        github.next([fault]);
        let error = error(client.refresh_tokens(&app, &refresh_token).await);
        assert!(
            matches!(error, OauthError::OutcomeUnknown { .. }),
            "{error}"
        );
        assert_eq!(github.asked().len(), 1, "sent once");
    }
    // Processed, with a lost answer: nothing can undo that.
    github.next([Fault::Lost(502)]);
    let lost = error(client.refresh_tokens(&app, &refresh_token).await);
    assert!(matches!(lost, OauthError::OutcomeUnknown { .. }), "{lost}");
    assert_eq!(
        error(client.refresh_tokens(&app, &refresh_token).await),
        refresh_refused()
    );
    github.stop().await;
}

#[tokio::test]
async fn eleventh_token_of_a_person_and_app_ends_the_oldest() {
    let (github, client, time) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(sign_in(&github, &client, &app).await.access_token);
        time.pass(Duration::from_mins(7));
    }
    assert_eq!(github.tokens_of("octocat").len(), 10);
    // Another person, with tokens of their own.
    github.browse_as("hubot", Consent::Allow);
    sign_in(&github, &client, &app).await;
    assert_eq!(github.tokens_of("octocat").len(), 10);

    github.browse_as("octocat", Consent::Allow);
    sign_in(&github, &client, &app).await;
    let left = github.tokens_of("octocat");
    assert_eq!(left.len(), 10);
    assert!(!left.iter().any(|left| left == tokens[0].expose()));
    assert!(left.iter().any(|left| left == tokens[1].expose()));

    // Ten new ones in an hour are the limit even if others were ended.
    let (github, client, _) = fake().await;
    let app = register(&github);
    github.browse_as("octocat", Consent::Allow);
    let oldest = sign_in(&github, &client, &app).await.access_token;
    for _ in 0..9 {
        let token = sign_in(&github, &client, &app).await.access_token;
        client.delete_token(&app, &token).await.unwrap();
    }
    assert_eq!(github.tokens_of("octocat"), [oldest.expose()]);
    sign_in(&github, &client, &app).await;
    let left = github.tokens_of("octocat");
    assert!(
        left.len() == 1 && left[0] != oldest.expose(),
        "the oldest has ended"
    );
    github.stop().await;
}

#[tokio::test]
async fn callback_of_an_oauth_app_may_go_deeper_and_a_loopback_may_have_any_port() {
    let (github, _, _) = fake().await;
    let callback = "http://127.0.0.1:8080/github/callback";
    for (app_id, redirect_uri, is_admitted) in [
        (None, "http://127.0.0.1:8080/github/callback/deeper", true),
        (None, "http://127.0.0.1:9999/github/callback", true),
        (None, "http://127.0.0.1:8080/elsewhere", false),
        (Some(4711), "http://127.0.0.1:9999/github/callback", true),
        (
            Some(4711),
            "http://127.0.0.1:8080/github/callback/deeper",
            false,
        ),
        (Some(4711), "https://127.0.0.1:8080/github/callback", false),
    ] {
        let app = FakeOauthApp {
            app_id,
            ..FakeOauthApp::oauth_app("Iv1.callbacks", CLIENT_SECRET, callback)
        };
        github.add_oauth_app(app);
        github.browse_as("octocat", Consent::Allow);
        let client_secret = tallyhook_core::secret::SharedSecret::new(secret(CLIENT_SECRET));
        let app = tallyhook_github_client::OauthApp::new("Iv1.callbacks", client_secret).unwrap();
        let flow = WebFlow::begin(&github, &app, redirect_uri, &[]).await;
        let has_code = matches!(flow.callback, Some(OauthCallback::Code { .. }));
        assert_eq!(has_code, is_admitted, "{redirect_uri}");
        github.change_oauth_app("Iv1.callbacks", |app| app.client_id = "ended".to_owned());
    }
    github.stop().await;
}
