//! HTTP as clients, proxies and monitors speak it: HEAD, wrong methods, unknown parameters, times,
//! validators, CSV.

use reqwest::header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use testkit::conformity::operations;
use testkit::payloads::{self, Account, Pr, World};
use testkit::{TOKEN, TestServer, assert_refused};
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

async fn send(server: &TestServer, method: Method, path: &str) -> Response {
    let request = server.http.request(method, format!("{}{path}", server.url));
    request.bearer_auth(TOKEN).send().await.unwrap()
}

async fn refusal(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Returns the documented path with a value for each part in braces.
fn filled(path: &str) -> String {
    path.replace("{owner}/{repo}", "acme-corp/api-server")
        .replace("{id}", "1")
        .replace("{number}", "1")
        .replace("{guid}", "none")
        .replace("{name}", "none")
}

/// Starts a server with pull requests of these titles.
async fn with_titles(titles: &[&str]) -> TestServer {
    let mut server = TestServer::start().await;
    let author = Account::user(900_000_101, "mira");
    for (number, title) in (1..).zip(titles) {
        let at = format!("2026-03-0{number}T09:00:00Z");
        let pr = Pr::new(&World::acme(), number, Some(&author), title, "branch", &at);
        let body = payloads::pull_request_event(&pr, "opened", &author, json!({})).to_string();
        let guid = number.to_string();
        assert_eq!(
            server.post("pull_request", &guid, body.as_bytes()).await.0,
            202
        );
    }
    server.drained().await;
    server
}

#[tokio::test]
async fn every_get_answers_head_with_the_same_headers_and_no_body() {
    /// The least number of paths that answer the same a moment later.
    const LEAST_STEADY: usize = 30;
    let server = with_titles(&["One"]).await;
    let reads = operations().filter(|(method, path, _)| {
        // An export is sent as it is read, without its length.
        method == "GET" && *path != "/ws" && *path != "/api/dead-letters/export"
    });
    let paths: Vec<_> = reads.map(|(_, path, _)| filled(path)).collect();
    assert!(paths.len() > 20);
    let mut steady = 0;
    for path in paths
        .iter()
        .map(String::as_str)
        .chain(["/nothing", "/webhooks/github"])
    {
        let got = send(&server, Method::GET, path).await;
        let head = send(&server, Method::HEAD, path).await;
        let again = send(&server, Method::GET, path).await;
        assert_eq!(head.status(), got.status(), "{path}");
        for name in [CONTENT_TYPE, ALLOW] {
            assert_eq!(
                head.headers().get(&name),
                got.headers().get(&name),
                "{name} of {path}"
            );
        }
        let tag = |answer: &reqwest::Response| answer.headers().get(ETAG).cloned();
        assert_eq!(tag(&head).is_some(), tag(&got).is_some(), "{path}");
        let (head_tag, tags) = (tag(&head), [tag(&got), tag(&again)]);
        let length: usize = head.headers()[CONTENT_LENGTH]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(length > 0, "{path}");
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
        // Ages, times and numbers of the process may differ a moment later.
        let [got, again] = [got.bytes().await.unwrap(), again.bytes().await.unwrap()];
        if got == again {
            assert_eq!(length, got.len(), "{path}");
            assert_eq!([head_tag.clone(), head_tag], tags, "{path}");
            steady += 1;
        }
    }
    assert!(steady >= LEAST_STEADY, "{steady} are steady");
    server.stop().await;
}

#[tokio::test]
async fn wrong_method_is_405_with_those_that_work() {
    let server = TestServer::start().await;
    for (method, path, allowed) in [
        (Method::PUT, "/api/prs", "GET, HEAD"),
        (Method::POST, "/api/prs/1", "GET, HEAD"),
        (Method::GET, "/api/sync", "POST"),
        (Method::HEAD, "/api/sync", "POST"),
        (Method::PUT, "/api/tasks/PROJ-1", "GET, PATCH, HEAD"),
        (Method::DELETE, "/api/dead-letters/requeue", "POST"),
        (Method::DELETE, "/api/dead-letters/groups", "GET, HEAD"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::DELETE, "/metrics", "GET, HEAD"),
        (Method::POST, "/ws", "GET, HEAD"),
        (Method::GET, "/webhooks/github", "POST"),
        (Method::PUT, "/webhooks/github", "POST"),
    ] {
        let response = send(&server, method.clone(), path).await;
        let found = response.headers().get(ALLOW).cloned();
        let mut found: Vec<_> = found
            .iter()
            .flat_map(|one| one.to_str().unwrap().split(", "))
            .collect();
        let mut allowed: Vec<_> = allowed.split(", ").collect();
        found.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(found, allowed, "{method} {path}");
        if method != Method::HEAD {
            assert_refused(&refusal(response).await, 405, "method_not_allowed");
        }
    }
    let (_, explained) = refusal(send(&server, Method::GET, "/webhooks/github").await).await;
    let message = explained["error"]["message"].as_str().unwrap();
    assert!(message.contains("GitHub's webhooks by POST"), "{message}");
    // A preflight has no token.
    for (path, allowed) in [
        ("/api/prs", "GET, HEAD, OPTIONS"),
        ("/webhooks/github", "POST"),
    ] {
        let request = server
            .http
            .request(Method::OPTIONS, format!("{}{path}", server.url));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 204, "{path}");
        assert_eq!(response.headers()[ALLOW], allowed);
    }
    assert_refused(
        &refusal(send(&server, Method::PUT, "/api/nothing").await).await,
        404,
        "not_found",
    );
    server.stop().await;
}

#[tokio::test]
async fn unknown_and_repeated_parameters_are_refused_by_every_call() {
    let server = TestServer::start().await;
    let calls = operations().filter(|(_, path, _)| path.starts_with("/api/"));
    let mut checked = 0;
    for (method, path, operation) in calls {
        let method: Method = method.parse().unwrap();
        let unknown = format!("{}?no_such=1", filled(path));
        let answer = refusal(send(&server, method.clone(), &unknown).await).await;
        assert_refused(&answer, 400, "bad_request");
        let message = answer.1["error"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("unknown parameter `no_such`: this call takes "),
            "{message}"
        );
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            let repeated = format!("{}?{name}=1&{name}=1", filled(path));
            let answer = refusal(send(&server, method.clone(), &repeated).await).await;
            let message = answer.1["error"]["message"].as_str().unwrap();
            assert_eq!(
                message,
                format!("`{name}` is given more than once"),
                "{path}"
            );
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
    for query in [
        "repository=a/b",
        "repo=a/b&repo=a/b",
        "repo=",
        "repo=https://github.com/a/b",
    ] {
        let url = format!("{}/ws?{query}", server.url.replace("http:", "ws:"));
        let mut request = url.into_client_request().unwrap();
        let token = format!("Bearer {TOKEN}").parse().unwrap();
        request.headers_mut().insert("authorization", token);
        match tokio_tungstenite::connect_async(request).await {
            Err(WebSocketError::Http(refused)) => assert_eq!(refused.status(), 400, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn errors_name_the_parameter_its_value_and_the_forms_that_work() {
    let server = TestServer::start().await;
    let message = |(status, answer): (u16, Value)| {
        assert_eq!(status, 400, "{answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    };
    for (path, expected) in [
        (
            "/api/prs?status=open",
            "unknown parameter `status` (did you mean `state`?)",
        ),
        (
            "/api/prs?state=opened",
            "`state` is `opened`: expected open, closed, merged",
        ),
        (
            "/api/prs?per_page=0",
            "`per_page` is `0`: expected a whole number from 1 to 100",
        ),
        (
            "/api/prs?per_page=many",
            "`per_page` is `many`: expected a whole number",
        ),
        ("/api/prs?cursor=!", "`cursor` is not one of this list"),
        (
            "/api/prs?from=yesterday",
            "`from` is `yesterday`: expected a time such as 2026-03-01T09:00:00Z",
        ),
        (
            "/api/prs/1?fresh=yes",
            "`fresh` is `yes`: expected true or false",
        ),
        (
            "/api/deliveries?state=lost",
            "`state` is `lost`: expected accepted, applied, ignored or dead",
        ),
        (
            "/api/metrics/cycle-time?bucket=weeek",
            "`bucket` is `weeek`: expected day, week or month (did you mean `week`?)",
        ),
    ] {
        let found = message(server.get(path).await);
        assert!(found.starts_with(expected), "{path}: {found}");
    }
    for (path, body, expected) in [
        (
            "/api/tasks",
            json!({"titel": "a"}),
            "the body has an unknown field `titel` (did you mean `title`?)",
        ),
        ("/api/tasks", json!({"key": "A-1"}), "`title` is missing"),
        (
            "/api/tasks",
            json!({"title": 7}),
            "`title` is 7: expected a text",
        ),
        (
            "/api/tasks",
            json!({"title": "a", "status": "DONNE"}),
            "`status` is \"DONNE\": expected TODO, IMPLEMENTING",
        ),
        ("/api/tasks", json!([]), "the body must be a JSON object"),
        (
            "/api/dead-letters/requeue",
            json!({"all": "yes"}),
            "`all` is \"yes\": expected true or false",
        ),
    ] {
        let found = message(server.ask(Method::POST, path, &body).await);
        assert!(found.starts_with(expected), "{path}: {found}");
    }
    let torn = server
        .http
        .post(format!("{}/api/tasks", server.url))
        .bearer_auth(TOKEN);
    let torn = torn
        .header(CONTENT_TYPE, "application/json")
        .body("{\"title\":")
        .send();
    let found = message(refusal(torn.await.unwrap()).await);
    assert_eq!(found, "the body is not JSON: see line 1 column 9");
    let form = server
        .http
        .post(format!("{}/api/tasks", server.url))
        .bearer_auth(TOKEN);
    let form = form
        .header(CONTENT_TYPE, "text/plain")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_refused(&refusal(form).await, 415, "unsupported_media_type");
    server.stop().await;
}

#[tokio::test]
async fn times_are_read_as_dates_spans_and_with_any_offset() {
    let server = with_titles(&["One", "Two", "Three"]).await;
    for (query, expected) in [
        ("from=2026-03-02", vec![3, 2]),
        ("to=2026-03-02", vec![1]),
        ("from=2026-03-02T10:00:00%2B01:00", vec![3, 2]),
        // The plus sign as a form decoder leaves it.
        ("from=2026-03-02T10:00:01+01:00", vec![3]),
        ("to=1d", vec![3, 2, 1]),
        ("from=1h", vec![]),
    ] {
        let (_, list) = server.get(&format!("/api/prs?{query}")).await;
        let numbers = list["items"].as_array().unwrap().iter();
        let numbers: Vec<_> = numbers
            .map(|item| item["number"].as_i64().unwrap())
            .collect();
        assert_eq!(numbers, expected, "{query}");
        let (status, _) = server
            .get(&format!("/api/metrics/cycle-time?{query}"))
            .await;
        assert_eq!(status, 200, "{query}");
    }
    server.stop().await;
}

#[tokio::test]
async fn unchanged_answer_is_304_for_the_client_that_has_it() {
    let server = with_titles(&["One"]).await;
    let get = async |known: Option<&str>, accept: &str| {
        let request = server
            .http
            // An open pull request waits longer with each second.
            .get(format!("{}/api/deliveries", server.url))
            .bearer_auth(TOKEN);
        let request = request.header(ACCEPT, accept);
        let request = match known {
            Some(tag) => request.header(IF_NONE_MATCH, tag),
            None => request,
        };
        request.send().await.unwrap()
    };
    let first = get(None, "*/*").await;
    assert_eq!(first.headers()["cache-control"], "private, no-cache");
    assert_eq!(first.headers()["vary"], "Accept, Authorization, Cookie");
    let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
    for known in [tag.clone(), format!("\"x\", W/{tag}")] {
        let again = get(Some(&known), "*/*").await;
        assert_eq!(
            (
                again.status().as_u16(),
                again.headers()[ETAG].to_str().unwrap()
            ),
            (304, tag.as_str())
        );
        assert!(again.bytes().await.unwrap().is_empty());
    }
    assert_eq!(get(Some("\"x\""), "*/*").await.status(), 200);
    assert_eq!(get(Some(&tag), "text/csv").await.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn lists_are_csv_for_clients_that_prefer_it() {
    let server = with_titles(&["Plain, \"quoted\"", "=cmd|' /C calc'!A0", "Three"]).await;
    let get = async |path: &str| {
        let request = server
            .http
            .get(format!("{}{path}", server.url))
            .bearer_auth(TOKEN);
        request.header(ACCEPT, "text/csv").send().await.unwrap()
    };
    let page = get("/api/prs?per_page=2&state=open").await;
    assert_eq!(
        page.headers()[CONTENT_TYPE],
        "text/csv; charset=utf-8; header=present"
    );
    let link = page.headers()[LINK].to_str().unwrap().to_owned();
    let query = link
        .strip_prefix("<")
        .unwrap()
        .strip_suffix(">; rel=\"next\"")
        .unwrap();
    let text = page.text().await.unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("repo,repo_access,number,pr_id,github_pr_id,title,author,"),
        "{text}"
    );
    assert!(
        lines[0].contains(",stages.coding_hours,stages.pickup_hours,"),
        "{text}"
    );
    assert!(lines[2].contains(",'=cmd|' /C calc'!A0,mira,"), "{text}");
    assert_eq!(lines.len(), 3);
    let last = get(&format!("/api/prs{query}")).await;
    assert!(last.headers().get(LINK).is_none());
    let text = last.text().await.unwrap();
    assert!(text.contains(",\"Plain, \"\"quoted\"\"\",mira,"), "{text}");
    // Each list has columns, also an empty one.
    for (method, path, operation) in operations() {
        let is_list = operation["responses"]["200"]["content"]["text/csv"].is_object();
        if method == "GET" && is_list && !path.contains('{') {
            let csv = get(path).await;
            assert_eq!(
                csv.headers()[CONTENT_TYPE],
                "text/csv; charset=utf-8; header=present"
            );
            assert!(
                csv.text()
                    .await
                    .unwrap()
                    .lines()
                    .next()
                    .unwrap()
                    .contains(','),
                "{path}"
            );
        }
    }
    // An answer that is no list, and an error, are JSON all the same.
    for path in ["/api/prs/1", "/api/prs?x=1"] {
        assert_eq!(get(path).await.headers()[CONTENT_TYPE], "application/json");
    }
    server.stop().await;
}
