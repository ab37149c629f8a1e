//! The fake GitHub, and the requests to it, against GitHub's own description where that has them.

use serde_json::{Value, json};
use testkit::github::Consent;

use super::{fake, register, sign_in, token};

/// Returns the places where `value` deviates from an entry of GitHub's description, or from one of
/// its schemas.
fn faults(entry: &str, value: &Value) -> Vec<String> {
    let file = testkit::recorded_data().join("openapi/github-rest-subset.jsonschema.json");
    let description: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut schema = match description["x-index"].get(entry) {
        Some(schema) => schema.clone(),
        None => json!({"$ref": format!("#/$defs/{entry}")}),
    };
    schema["$schema"] = description["$schema"].clone();
    schema["$defs"] = description["$defs"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors = validator.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[tokio::test]
async fn people_and_installations_are_as_github_describes_them() {
    let (github, client, time) = fake().await;
    github.add_app(&time);
    let app = register(&github);
    github.add_organization(900, "acme-corp");
    github.organization("acme-corp", |known| {
        known.seat("octocat", "active", "member")
    });
    for (installation, is_suspended) in [(9, false), (10, true)] {
        github.install_app(
            4711,
            if is_suspended { "octocat" } else { "acme-corp" },
            installation,
        );
        github.suspend(installation, is_suspended);
    }
    github.browse_as("octocat", Consent::Allow);
    let tokens = sign_in(&github, &client, &app).await;
    let person = client.account("octocat", token(tokens.access_token.expose()));
    let get = async |path: &str| person.get::<Value>(path).await.unwrap();

    assert_eq!(
        faults("response GET /user 200", &get("/user").await),
        [""; 0]
    );
    let installations = get("/user/installations").await;
    assert_eq!(installations["total_count"], 2);
    let mut wrong = faults("response GET /user/installations 200", &installations);
    // The description requires the account to be a user and an enterprise at once.
    wrong.retain(|fault| !fault.contains("/account: "));
    assert_eq!(wrong, [""; 0]);
    let repositories = get("/user/installations/9/repositories").await;
    // The list of a person has the shape of that of an installation.
    let described = "response GET /installation/repositories 200";
    assert_eq!(faults(described, &repositories), [""; 0]);
    assert_eq!(repositories["total_count"], 1);
    for organization in get("/user/orgs").await.as_array().unwrap() {
        assert_eq!(
            faults("organization-simple-webhooks", organization),
            [""; 0]
        );
    }
    let refused = client.get::<Value>("/user").await.unwrap_err();
    assert!(refused.to_string().contains("/user"), "{refused}");
    github.stop().await;
}
