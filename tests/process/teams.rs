//! Teams, members and people by the command line, beside a running server.

use std::process::Command;

use serde_json::{Value, json};
use testkit::Place;
use testkit::process::{Serve, run, tallyhook};

fn json_of(command: &mut Command) -> Value {
    serde_json::from_str(&run(command).ok()).unwrap()
}

#[tokio::test]
async fn teams_people_and_their_tokens_are_made_beside_a_running_server() {
    let here = Place::embedded();
    let server = Serve::start(here.path());
    let command = |arguments: &[&str]| tallyhook(here.path(), arguments);
    let done = |arguments: &[&str]| run(&mut command(arguments)).ok();
    assert_eq!(done(&["team", "create", "Mobile apps"]), "mobile-apps\n");
    run(&mut command(&["team", "create", "mobile-apps"]))
        .failed(1, &["mobile-apps", "another name"]);
    for name in ["", "a/b", "teams"] {
        run(&mut command(&["team", "create", name])).failed(2, &["the name of a team"]);
    }
    let link = done(&[
        "user",
        "invite",
        "Ines Adler",
        "--login",
        "ines-acme",
        "--team",
        "mobile-apps",
        "--role",
        "admin",
    ]);
    let (_, secret) = link.trim().split_once("/invitations/").unwrap();
    assert_eq!(secret.len(), 64);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let joining = http
        .build()
        .unwrap()
        .post(format!("{}/invitations/{secret}", server.url));
    let joined = joining
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Accept", "text/html")
        .send()
        .await
        .unwrap();
    assert_eq!(joined.status(), 303);
    let members = json_of(&mut command(&[
        "member",
        "list",
        "--team",
        "mobile-apps",
        "--json",
    ]));
    assert_eq!(
        members["items"][0]["user"],
        json!({"id": 1, "login": "ines-acme", "name": "Ines Adler"})
    );
    let member = |arguments: &[&str]| {
        let team = ["--team", "mobile-apps"];
        command(&[&["member"], arguments, &team].concat())
    };
    run(&mut member(&["role", "ines-acme", "viewer"])).failed(1, &["last admin"]);
    run(&mut member(&["remove", "ines-acme", "--yes"])).failed(1, &["last admin"]);
    run(&mut member(&["role", "nobody", "viewer"])).failed(1, &["nobody", "user list"]);
    run(&mut member(&["role", "ines-acme", "operator"])).failed(2, &["viewer, member or admin"]);
    done(&["user", "invite", "Ada"]);
    assert_eq!(
        run(&mut member(&["add", "2", "--role", "admin"])).ok(),
        "added\n"
    );
    run(&mut member(&["add", "2"])).failed(1, &["member role"]);
    assert_eq!(
        run(&mut member(&["role", "@Ines-Acme", "viewer"])).ok(),
        "set\n"
    );
    run(&mut member(&["remove", "1"])).failed(2, &["ines-acme", "--yes"]);
    assert_eq!(
        run(&mut member(&["remove", "1", "--yes"])).ok(),
        "removed\n"
    );
    let users = json_of(&mut command(&["user", "list", "--json"]));
    let teams: Vec<&Value> = users["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| &user["teams"])
        .collect();
    assert_eq!(
        teams,
        [
            &json!([]),
            &json!([{"team": "mobile-apps", "role": "admin"}])
        ]
    );
    let teams = json_of(&mut command(&["team", "list", "--json"]));
    assert_eq!(
        teams["items"],
        json!([{"team": "default", "members": 0}, {"team": "mobile-apps", "members": 1}])
    );
    for list in [
        &["team", "list"][..],
        &["user", "list"],
        &["member", "list", "--team", "mobile-apps"],
    ] {
        assert!(done(list).lines().count() > 1, "{list:?}");
    }
    // A second link for one who is stored already.
    let again = done(&["user", "invite", "ines-acme", "--existing"]);
    assert!(again.contains("/invitations/") && !again.contains(secret));
    run(&mut command(&["user", "invite", "nobody", "--existing"])).failed(1, &["nobody"]);

    let create = ["token", "create", "ci", "--role", "viewer"];
    let token = done(&[&create[..], &["--team", "mobile-apps"]].concat());
    done(&create);
    let request = reqwest::Client::new().get(format!("{}/api/me", server.url));
    let me: Value = request
        .bearer_auth(token.trim())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&me["team"], &me["role"]),
        (&json!("mobile-apps"), &json!("viewer"))
    );
    let tokens = json_of(&mut command(&[
        "token",
        "list",
        "--team",
        "mobile-apps",
        "--json",
    ]));
    assert_eq!(tokens["items"].as_array().unwrap().len(), 1);
    run(&mut command(&["token", "create", "x", "--team", "none"]))
        .failed(2, &["`none`", "team list"]);
    run(&mut command(&[
        "token",
        "revoke",
        "ci",
        "--team",
        "mobile-apps",
        "--yes",
    ]))
    .ok();
    let listed = json_of(&mut command(&["token", "list", "--json"]));
    let valid = listed["items"].as_array().unwrap().iter();
    let valid: Vec<_> = valid
        .filter(|token| token["name"] == "ci" && token["revoked_at"].is_null())
        .collect();
    assert_eq!((valid.len(), &valid[0]["team"]), (1, &json!("default")));
    assert_eq!(server.terminate().0.code(), Some(0));
}
