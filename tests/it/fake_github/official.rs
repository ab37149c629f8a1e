//! Checks of the fake GitHub against what GitHub publishes: its REST description as JSON Schema,
//! and its GraphQL schema.

use std::path::Path;

use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use jsonschema::Validator;
use serde_json::{Value, json};
use tallyhook_core::github::graphql::{self, OmittedParts, OptionalPart};
use tallyhook_core::github::types::PrNumber;

use super::{GITHUB_TOKEN, PAGE, READER, REPO, ask, get, grown, http, timestamp};
use testkit::github::{FakeGithub, Rights, app};

/// GitHub's description of its answers, by keys such as `response GET /path 200`.
struct Description(Value);

impl Description {
    fn read(data: &Path) -> Self {
        let text = std::fs::read_to_string(data.join("openapi/github-rest-subset.jsonschema.json"))
            .unwrap();
        Self(serde_json::from_str(&text).unwrap())
    }

    fn of(&self, entry: &str) -> Validator {
        let mut schema = self.0["x-index"][entry].clone();
        assert!(schema.is_object(), "nothing is said of {entry}");
        schema["$schema"] = self.0["$schema"].clone();
        schema["$defs"] = self.0["$defs"].clone();
        jsonschema::validator_for(&schema).unwrap()
    }
}

/// The fields that GitHub sends as null, against its own description: deleted forks and accounts,
/// labels that are not described, lines that are no longer in the diff.
const NULL_AT_TIMES: [&str; 5] = ["/head/repo", "/user", "/description", "/line", "/position"];

/// Returns the places where `value` deviates from the description, except for the fields that are
/// null at times.
fn faults(validator: &Validator, value: &Value) -> Vec<String> {
    let errors = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()));
    let known = |error: &String| {
        NULL_AT_TIMES
            .iter()
            .any(|field| error.contains(&format!("{field}: null is not")))
    };
    errors.filter(|error| !known(error)).collect()
}

#[tokio::test]
async fn rest_answers_are_as_github_describes_them() {
    let data = testkit::recorded_data();
    let description = Description::read(&data);
    let (github, _) = grown(21, 40).await;
    github.add_hook(5, &format!("repos/{REPO}"), "http://127.0.0.1:1", "s");
    github.give(READER, Rights::FineGrained);
    github.add_repository(3, "acme-corp/renamed");
    github.rename("acme-corp/renamed", "acme-corp/server");
    let busy = github.world(|world| {
        let pulls = world.repository(REPO).pulls.values();
        pulls
            .max_by_key(|pull| pull.reviews.len().min(pull.inline.len() * 5))
            .unwrap()
            .pr
            .number
    });

    let repo = "/repos/{owner}/{repo}";
    for (template, rest, status) in [
        ("", "", 200),
        ("/pulls", "/pulls?state=all&per_page=100", 200),
        ("/pulls", "/pulls?state=bogus", 422),
        ("/pulls/{pull_number}", &format!("/pulls/{busy}"), 200),
        ("/pulls/{pull_number}", "/pulls/999", 404),
        (
            "/pulls/{pull_number}/reviews",
            &format!("/pulls/{busy}/reviews"),
            200,
        ),
        (
            "/pulls/{pull_number}/commits",
            &format!("/pulls/{busy}/commits"),
            200,
        ),
        (
            "/pulls/{pull_number}/comments",
            &format!("/pulls/{busy}/comments"),
            200,
        ),
        ("/hooks", "/hooks", 200),
        ("/hooks/{hook_id}", "/hooks/5", 200),
        ("/hooks/{hook_id}", "/hooks/6", 404),
    ] {
        let seen = get(&github, &format!("/repos/{REPO}{rest}")).await;
        assert_eq!(seen.status, status, "{rest}");
        assert_ne!(seen.body, json!([]), "{rest}");
        let validator = description.of(&format!("response GET {repo}{template} {status}"));
        assert_eq!(faults(&validator, &seen.body), [""; 0], "{rest}");
    }
    let moved = get(&github, "/repos/acme-corp/renamed").await;
    assert_eq!(
        (
            moved.status,
            faults(
                &description.of(&format!("response GET {repo} 301")),
                &moved.body
            )
        ),
        (301, vec![])
    );
    let limits = get(&github, "/rate_limit").await.body;
    assert_eq!(
        faults(&description.of("response GET /rate_limit 200"), &limits),
        [""; 0]
    );

    let hooks = format!("{}/repos/{REPO}/hooks", github.url);
    let wanted = json!({
        "name": "web",
        "events": ["push"],
        "config": {"url": "https://me.example/hook", "secret": "s"},
    });
    for (token, status) in [(READER, 403), (GITHUB_TOKEN, 201), (GITHUB_TOKEN, 422)] {
        let seen = ask(http().post(&hooks).json(&wanted), token).await;
        assert_eq!(seen.status, status);
        let validator = description.of(&format!("response POST {repo}/hooks {status}"));
        assert_eq!(faults(&validator, &seen.body), [""; 0], "{status}");
    }
    github.stop().await;
}

#[tokio::test]
async fn pull_requests_that_are_opened_or_refused_are_as_github_describes_them() {
    let data = testkit::recorded_data();
    let description = Description::read(&data);
    let (github, _) = grown(22, 3).await;
    github.give(READER, Rights::FineGrained);
    github.world(|world| {
        let repository = world.repository(REPO);
        repository.push("door", &[timestamp("2026-06-02T12:00:00Z")]);
        repository.push("empty", &[]);
        repository.without_drafts = true;
    });
    let path = "/repos/{owner}/{repo}/pulls";
    let pulls = format!("{}/repos/{REPO}/pulls", github.url);
    for (token, head, draft, status, words) in [
        (READER, "door", false, 403, "not accessible"),
        (GITHUB_TOKEN, "door", true, 422, "Draft"),
        (GITHUB_TOKEN, "gone", false, 422, r#""field":"head""#),
        (
            GITHUB_TOKEN,
            "empty",
            false,
            422,
            "No commits between main and empty",
        ),
        (
            GITHUB_TOKEN,
            "door",
            false,
            201,
            r#""label":"acme-corp:door""#,
        ),
        (
            GITHUB_TOKEN,
            "door",
            false,
            422,
            "A pull request already exists for acme-corp:door.",
        ),
    ] {
        let wanted = json!({"title": "Add a door", "head": head, "base": "main", "draft": draft});
        assert_eq!(
            faults(&description.of(&format!("request POST {path}")), &wanted),
            [""; 0]
        );
        let seen = ask(http().post(&pulls).json(&wanted), token).await;
        let validator = description.of(&format!("response POST {path} {status}"));
        assert_eq!(
            (seen.status, faults(&validator, &seen.body)),
            (status, vec![]),
            "{words}"
        );
        assert!(
            seen.body.to_string().contains(words),
            "{words}: {}",
            seen.body
        );
    }
    for (query, expected) in [
        ("head=acme-corp:door&base=main", 1),
        ("head=acme-corp:door&base=other", 0),
    ] {
        let listed = get(&github, &format!("/repos/{REPO}/pulls?{query}"))
            .await
            .body;
        assert_eq!(listed.as_array().unwrap().len(), expected, "{query}");
    }
    github.stop().await;
}

#[tokio::test]
async fn app_is_as_github_describes_it() {
    let data = testkit::recorded_data();
    let description = Description::read(&data);
    let github = FakeGithub::start().await;
    let (client, time) = github.app_client(&app::private_key());
    github.add_app(&time);
    github.install("acme-corp", 9);
    github.add_hook(
        app::HOOK,
        "app",
        "https://tallyhook.example.com/webhooks/github",
        "s",
    );
    for path in ["/app", "/app/installations", "/app/hook/config"] {
        let answer: Value = client.get(path).await.unwrap();
        let mut faults = faults(
            &description.of(&format!("response GET {path} 200")),
            &answer,
        );
        // The description requires the account to be a user and an enterprise at once.
        faults.retain(|fault| !fault.starts_with("/0/account: "));
        assert_eq!(faults, [""; 0], "{path}: {answer}");
    }
    github.stop().await;
}

/// Reads GitHub's GraphQL schema. It defines two fields twice, which is harmless here.
fn schema(data: &Path) -> Valid<Schema> {
    let text = std::fs::read_to_string(data.join("graphql/schema.graphql")).unwrap();
    let schema = Schema::parse(text, "schema.graphql").unwrap_or_else(|error| error.partial);
    Valid::assume_valid(schema)
}

#[test]
fn queries_are_valid_by_github_s_schema() {
    let data = testkit::recorded_data();
    let schema = schema(&data);
    let wrong = |query: &str| {
        let checked = ExecutableDocument::parse_and_validate(&schema, query, "query.graphql");
        checked.err().map(|error| error.errors.to_string())
    };
    assert_eq!(wrong(PAGE), None);
    let alone = OptionalPart::ALL
        .iter()
        .map(|part| OmittedParts::from([*part]));
    let all = OptionalPart::ALL.iter().copied().collect();
    for omitted in alone.chain([OmittedParts::new(), all]) {
        for query in [
            graphql::page(&omitted),
            graphql::numbered(&[PrNumber(1), PrNumber(2)], &omitted),
            graphql::more(&omitted),
        ] {
            assert_eq!(wrong(&query), None, "without {omitted:?}");
        }
    }
    assert!(wrong("{ repository(owner: \"a\", name: \"b\") { titel } }").is_some());
}
