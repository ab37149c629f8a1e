//! Many accounts in one process: what GitHub keeps apart for each is kept apart here, and what is
//! about the host is shared.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use tallyhook_github_client::{BreakerState, CredentialOwner, Credentials, GithubError, Token};
use testkit::github::{Fault, GITHUB_TOKEN, Resource};

use super::{REPO, fake, seconds, token};

#[tokio::test]
async fn etag_answer_of_one_account_is_not_used_for_another() {
    let (github, client, _) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    github.give_to("hubot", "ghu_two", Some(&[]));
    let one = client.account("one", token("ghu_one"));
    let two = client.account("two", token("ghu_two"));
    for (account, id) in [(&one, 42), (&two, 43)] {
        for unchanged in [false, true] {
            let user = account.get_conditional::<Value>("/user").await.unwrap();
            assert_eq!((&user.value["id"], user.unchanged), (&json!(id), unchanged));
        }
    }
    // Even a server whose tags do not depend on the token gives each account its own answer.
    let tagged =
        |id: i64| Fault::answer(200, &[("ETag", "\"same\"")], &json!({"id": id}).to_string());
    github.next([tagged(1), tagged(2)]);
    github.requests();
    for (account, id) in [(&one, 1), (&two, 2)] {
        let answer = account.get_conditional::<Value>("/echo").await.unwrap();
        assert_eq!((&answer.value["id"], answer.unchanged), (&json!(id), false));
    }
    // Another token of the same account is another answer, too.
    let renewed = client.account("one", token("ghu_two"));
    renewed.get_conditional::<Value>("/echo").await.unwrap();
    let tags: Vec<_> = github
        .requests()
        .iter()
        .map(|request| request.header("if-none-match").to_owned())
        .collect();
    assert_eq!(tags, [""; 3]);
    github.stop().await;
}

#[tokio::test]
async fn rate_limit_of_one_account_stops_no_other_and_outlasts_its_token() {
    let (github, client, time) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    github.give_to("octocat", "ghu_renewed", Some(&[]));
    github.give_to("hubot", "ghu_two", Some(&[]));
    let one = client.account("one", token("ghu_one")).once();
    let two = client.account("two", token("ghu_two"));
    github.next([Fault::message(429, &[("Retry-After", "600")], "")]);
    let until = time.now() + TimeDelta::seconds(600);
    assert_eq!(
        one.get::<Value>(REPO).await.unwrap_err(),
        GithubError::Limited { until }
    );
    two.get::<Value>(REPO).await.unwrap();
    client.get::<Value>(REPO).await.unwrap();
    assert_eq!(seconds(&time), [0; 0]);
    // GitHub counts the person, whichever token it is.
    let renewed = client.account("one", token("ghu_renewed"));
    renewed.get::<Value>(REPO).await.unwrap();
    assert_eq!(seconds(&time), [600]);
    github.stop().await;
}

#[tokio::test]
async fn writes_of_one_account_do_not_delay_those_of_another() {
    let (github, client, time) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    github.give_to("hubot", "ghu_two", Some(&[]));
    let one = client.account("one", token("ghu_one"));
    let two = client.account("two", token("ghu_two"));
    for account in [&one, &two, &client] {
        account.post::<Value>("/echo", &json!(1)).await.unwrap();
    }
    assert_eq!(seconds(&time), [0; 0]);
    let again = client.account("one", token("ghu_one"));
    again.post::<Value>("/echo", &json!(1)).await.unwrap();
    assert_eq!(seconds(&time), [1]);
    github.stop().await;
}

#[tokio::test]
async fn allowances_are_those_of_each_account_until_it_ends() {
    let (github, client, _) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    github.give_to("hubot", "ghu_two", Some(&[]));
    github.allow("ghu_one", Resource::Core, 5000, 100);
    github.allow("ghu_two", Resource::Core, 5000, 4000);
    for (name, text) in [("one", "ghu_one"), ("two", "ghu_two")] {
        client
            .account(name, token(text))
            .get::<Value>(REPO)
            .await
            .unwrap();
    }
    let left = |client: &tallyhook_github_client::Client| -> Vec<(String, u64)> {
        let accounts = client.account_allowances().into_iter();
        accounts
            .map(|(name, allowances)| (name.to_string(), allowances[0].remaining))
            .collect()
    };
    assert_eq!(
        left(&client),
        [("one".to_owned(), 99), ("two".to_owned(), 3999)]
    );
    assert!(client.statistics().allowances.is_empty());
    client.end_account("one");
    assert_eq!(left(&client), [("two".to_owned(), 3999)]);
    github.stop().await;
}

#[tokio::test]
async fn backfill_of_one_account_does_not_wait_for_the_reserve_of_another() {
    let (github, client, time) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    github.give_to("hubot", "ghu_two", Some(&[]));
    github.allow("ghu_one", Resource::Core, 5000, 900);
    let one = client.account("one", token("ghu_one")).for_backfill();
    let two = client.account("two", token("ghu_two")).for_backfill();
    for _ in 0..2 {
        two.get::<Value>(REPO).await.unwrap();
    }
    one.get::<Value>(REPO).await.unwrap();
    assert_eq!(seconds(&time), [0; 0]);
    one.get::<Value>(REPO).await.unwrap();
    assert_eq!(seconds(&time).len(), 1);
    github.stop().await;
}

#[tokio::test]
async fn outage_of_the_host_is_known_to_every_account() {
    let (github, client, _) = fake().await;
    github.give_to("hubot", "ghu_two", Some(&[]));
    let two = client.account("two", token("ghu_two"));
    github.next(vec![Fault::status(503); 5]);
    for _ in 0..5 {
        client.once().get::<Value>(REPO).await.unwrap_err();
    }
    github.asked();
    let error = two.get::<Value>(REPO).await.unwrap_err();
    assert!(matches!(error, GithubError::Unreachable { .. }), "{error}");
    assert_eq!(github.asked(), [""; 0]);
    assert_eq!(two.statistics().breaker.state, BreakerState::Open);
    github.stop().await;
}

#[tokio::test]
async fn refused_token_of_a_connection_is_not_sent_again_and_a_new_one_is() {
    let (github, client, _) = fake().await;
    let connection = |text: &str| {
        let token = Token::parse(text).unwrap().of_connection("octocat");
        client.account("one", Credentials::Token(token))
    };
    let refused = GithubError::Unauthorized {
        message: "Bad credentials".to_owned(),
        owner: CredentialOwner::Connection("octocat".to_owned()),
    };
    for _ in 0..3 {
        let error = connection("ghu_ended").user().await.unwrap_err();
        assert_eq!(error, refused);
        assert!(
            error.to_string().contains("the connection octocat"),
            "{error}"
        );
    }
    assert_eq!(github.asked(), ["GET /user"]);

    github.give_to("octocat", "ghu_new", Some(&[]));
    assert_eq!(connection("ghu_new").user().await.unwrap().id, 42);
    // Requests without the token are none of its.
    let anonymous = connection("ghu_new").without_credentials();
    anonymous.get::<Value>("/user").await.unwrap_err();
    assert_eq!(connection("ghu_new").user().await.unwrap().id, 42);

    // GitHub may err about the token of the settings, and nobody would notice its return.
    github.asked();
    github.revoke(GITHUB_TOKEN);
    for _ in 0..2 {
        let error = client.get::<Value>(REPO).await.unwrap_err();
        assert!(error.to_string().contains("set GITHUB_TOKEN"), "{error}");
    }
    assert_eq!(github.asked().len(), 2);
    github.stop().await;
}

#[tokio::test]
async fn handles_of_an_account_count_their_own_requests() {
    let (github, client, _) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    client.get::<Value>(REPO).await.unwrap();
    let one = client.account("one", token("ghu_one"));
    one.user().await.unwrap();
    assert_eq!(
        (one.requests_of_handle(), client.requests_of_handle()),
        (1, 1)
    );
    assert_eq!(client.requests(), 2);
    assert!(!one.is_app());
    tokio::time::timeout(Duration::from_secs(30), github.stop())
        .await
        .unwrap();
}

#[tokio::test]
async fn limit_of_requests_without_an_account_is_one_for_all_accounts() {
    let (github, client, time) = fake().await;
    github.give_to("octocat", "ghu_one", Some(&[]));
    github.give_to("hubot", "ghu_two", Some(&[]));
    let one = client
        .account("one", token("ghu_one"))
        .without_credentials();
    let two = client
        .account("two", token("ghu_two"))
        .without_credentials();
    github.next([Fault::message(429, &[("Retry-After", "600")], "")]);
    let limited = one.once().get::<Value>(REPO).await.unwrap_err();
    let until = time.now() + TimeDelta::seconds(600);
    assert_eq!(limited, GithubError::Limited { until });
    two.get::<Value>(REPO).await.unwrap_err();
    assert_eq!(seconds(&time), [600]);
    github.stop().await;
}
