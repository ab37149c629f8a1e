//! Queries of which GitHub refuses a part, or leaves out fields: the rest is fetched.

use serde_json::{Value, json};
use tallyhook_core::event;
use tallyhook_core::github::graphql;
use tallyhook_core::github::types::PrNumber;
use tallyhook_github_client::pulls::FetchedPullRequests;
use tallyhook_github_client::{Client, GithubError};

use super::fake;
use testkit::github::growth::Growth;
use testkit::github::{FakeGithub, Fault, GITHUB_TOKEN};

const OF: &str = "acme-corp/api-server";

/// Returns a fake GitHub with pull requests 1 to 6, and a client of it.
async fn grown() -> (FakeGithub, Client) {
    let (github, client, _) = fake().await;
    let growth = Growth {
        seed: 3,
        pulls: 6,
        ties: false,
        until: chrono::Utc::now().into(),
    };
    github.world(|world| drop(world.grow(OF, growth)));
    (github, client)
}

fn numbers(fetched: &FetchedPullRequests) -> Vec<i64> {
    let mut numbers: Vec<_> = fetched
        .complete
        .iter()
        .map(|complete| complete.pull_request.number.0)
        .collect();
    numbers.sort_unstable();
    numbers
}

async fn page(client: &Client) -> Result<FetchedPullRequests, GithubError> {
    let page = client.pull_request_page(OF, 10, None, true).await?;
    Ok(page.pull_requests)
}

#[tokio::test]
async fn query_is_sent_again_without_the_part_that_is_refused() {
    let scopes = json!({
        "type": "INSUFFICIENT_SCOPES",
        "message": "Your token has not been granted the required scopes to execute this query. The \
                    'slug' field requires one of the following scopes: ['read:org'], but your token \
                    has only been granted the: ['repo'] scopes.",
    });
    let schema = |code: &str, message: &str, path: &[&str]| json!({"message": message, "path": path, "extensions": {"code": code}});
    let reviewer = &[
        "fragment Whole",
        "timelineItems",
        "nodes",
        "requestedReviewer",
        "... on Bot",
    ];
    for (refused, error, unknown) in [
        ("on Team", scopes, "teams"),
        (
            "on Bot { login",
            schema(
                "cannotSpreadFragment",
                "Fragment on Bot can't be spread inside RequestedReviewer",
                reviewer,
            ),
            "bots",
        ),
        (
            "on Mannequin",
            json!({"message": "No such type Mannequin, so it can't be a fragment condition"}),
            "imported users",
        ),
        (
            "ADDED_TO_MERGE_QUEUE_EVENT",
            schema(
                "argumentLiteralsIncompatible",
                "Argument 'itemTypes' on Field 'timelineItems' has an invalid value",
                &["fragment Whole", "timelineItems", "itemTypes"],
            ),
            "merge queue",
        ),
        (
            "fullDatabaseId state",
            schema(
                "undefinedField",
                "Field 'fullDatabaseId' doesn't exist on type 'PullRequestReview'",
                &[],
            ),
            "ids",
        ),
        (
            "isDraft",
            json!({"message": "Field 'isDraft' doesn't exist on type 'PullRequest'"}),
            "draft",
        ),
        // An error about no part that is known here: everything that is not needed is left out.
        (
            "previousReviewState",
            schema("undefinedField", "Field 'x' doesn't exist", &[]),
            "dismissal",
        ),
    ] {
        let (github, client) = grown().await;
        github.refuse(refused, error);
        assert_eq!(
            numbers(&page(&client).await.unwrap()),
            [1, 2, 3, 4, 5, 6],
            "{refused}"
        );
        assert_eq!(github.asked().len(), 2, "{refused}");
        let known = client.unknown_facts();
        assert!(
            known.iter().any(|fact| fact.contains(unknown)),
            "{refused}: {known:?}"
        );
        let wanted = [1, 2].map(PrNumber);
        let by_number = client
            .pull_requests_by_number(OF, &wanted, true)
            .await
            .unwrap();
        assert_eq!(numbers(&by_number), [1, 2], "{refused}");
        assert_eq!(github.asked().len(), 1, "{refused} is remembered");
        for complete in by_number.complete {
            let at = by_number.asked_at.into();
            event::fetched(
                &by_number.repository,
                complete.pull_request,
                true,
                false,
                at,
            )
            .unwrap_or_else(|error| panic!("{refused}: {error}"));
        }
        github.stop().await;
    }
}

#[tokio::test]
async fn query_that_is_refused_without_optional_parts_is_an_error_and_nothing_is_remembered() {
    let (github, client) = grown().await;
    let error =
        json!({"type": "INSUFFICIENT_SCOPES", "message": "The 'title' field requires 'repo'"});
    github.refuse("title", error);
    let error = page(&client).await.unwrap_err();
    assert!(
        error.to_string().contains("'title' field requires"),
        "{error}"
    );
    assert_eq!((github.asked().len(), client.unknown_facts()), (2, vec![]));
    github.stop().await;
}

/// Returns the page of the first pull request as the fake answers it.
async fn first_page(github: &FakeGithub) -> Value {
    let variables = json!({
        "owner": "acme-corp", "name": "api-server", "first": 10, "after": null, "commits": 100,
    });
    let body = json!({"query": graphql::page(&Default::default()), "variables": variables});
    let request = reqwest::Client::new()
        .post(format!("{}/graphql", github.url))
        .bearer_auth(GITHUB_TOKEN)
        .header("User-Agent", "a test");
    let answer: Value = request
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["errors"], Value::Null);
    answer
}

#[tokio::test]
async fn field_that_github_withholds_is_unknown_and_the_pull_request_is_fetched() {
    let (github, client) = grown().await;
    let whole = first_page(&github).await;
    let nodes = whole["data"]["repository"]["pullRequests"]["nodes"]
        .as_array()
        .unwrap();
    let with = |list: &str| {
        let has = |node: &Value| !node[list]["nodes"].as_array().unwrap().is_empty();
        nodes.iter().position(has).unwrap()
    };
    let (reviewed, changed) = (with("reviews"), with("timelineItems"));
    for (place, leaf, truncated) in [
        (0, "/author", false),
        (0, "/headRepository", false),
        (0, "/labels", false),
        (0, "/commits/nodes/0", false),
        (reviewed, "/reviews/nodes/0/author", false),
        (reviewed, "/reviews/nodes/0/commit", false),
        (changed, "/timelineItems/nodes/0/actor", false),
        // An entry of a list is not needed for the others.
        (reviewed, "/reviews/nodes/0", true),
        (changed, "/timelineItems/nodes/0", true),
    ] {
        let mut answer = whole.clone();
        let node = &mut answer["data"]["repository"]["pullRequests"]["nodes"][place];
        match node.pointer_mut(leaf) {
            Some(value) => *value = Value::Null,
            None => node[leaf.trim_start_matches('/')] = Value::Null,
        }
        let mut path = vec![
            json!("repository"),
            json!("pullRequests"),
            json!("nodes"),
            json!(place),
        ];
        path.extend(
            leaf.split('/')
                .skip(1)
                .map(|step| match step.parse::<u64>() {
                    Ok(index) => json!(index),
                    Err(_) => json!(step),
                }),
        );
        answer["errors"] = json!([{
            "type": "FORBIDDEN",
            "path": path,
            "extensions": {"saml_failure": true},
            "message": "Resource protected by organization SAML enforcement.",
        }]);
        github.next([Fault::answer(200, &[], &answer.to_string())]);
        let fetched = page(&client).await.unwrap();
        assert_eq!(
            numbers(&fetched),
            [1, 2, 3, 4, 5, 6],
            "{leaf}: {:?}",
            fetched.failures
        );
        assert_eq!(fetched.complete[place].truncated, truncated, "{leaf}");
        for complete in fetched.complete {
            let at = fetched.asked_at.into();
            event::fetched(
                &fetched.repository,
                complete.pull_request,
                true,
                complete.truncated,
                at,
            )
            .unwrap_or_else(|error| panic!("{leaf}: {error}"));
        }
    }
    // The other queries go on with all parts.
    assert_eq!(client.unknown_facts(), [""; 0]);
    github.stop().await;
}

#[tokio::test]
async fn list_that_github_cannot_load_is_a_failure_with_its_reason() {
    let (github, client) = grown().await;
    let mut answer = first_page(&github).await;
    answer["data"]["repository"]["pullRequests"]["nodes"][0]["reviews"] = Value::Null;
    answer["errors"] = json!([{
        "path": ["repository", "pullRequests", "nodes", 0, "reviews"], "message": "Timeout on reviews",
    }]);
    github.next([Fault::answer(200, &[], &answer.to_string())]);
    let mut fetched = page(&client).await.unwrap();
    let first = fetched.complete.swap_remove(0);
    assert_eq!(first.left_out.as_deref(), Some("Timeout on reviews"));
    let at = fetched.asked_at.into();
    event::fetched(&fetched.repository, first.pull_request, true, false, at).unwrap_err();
    github.stop().await;
}
