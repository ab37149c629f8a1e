//! The frame of pages: errors, methods, choices of a browser, unknown parameters.

use reqwest::header::{ACCEPT, ALLOW, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Method, Response};
use serde_json::Value;
use testkit::{TOKEN, TestServer};

use super::login::{browser, fill, get, parted, session};

fn media_type(response: &Response) -> &str {
    let value = response.headers()[CONTENT_TYPE].to_str().unwrap();
    value.split(';').next().unwrap()
}

#[tokio::test]
async fn path_without_a_page_is_a_page_for_browsers_and_json_for_programs() {
    let server = TestServer::start().await;
    for (method, path, status, allow) in [
        (Method::GET, "/nothing", 404, None),
        (Method::GET, "/prs/", 404, None),
        (Method::POST, "/", 405, Some("GET, HEAD")),
        (Method::DELETE, "/login", 405, Some("POST, GET, HEAD")),
        (Method::GET, "/theme", 405, Some("POST")),
        (Method::GET, "/logout", 405, Some("POST")),
        (Method::PUT, "/healthz", 405, Some("GET, HEAD")),
    ] {
        let (response, page) = parted(browser(&server, method.clone(), path)).await;
        assert_eq!(response.status(), status, "{method} {path}");
        let allowed = response.headers().get(ALLOW);
        assert_eq!(
            allowed.map(|allow| allow.to_str().unwrap()),
            allow,
            "{method} {path}"
        );
        assert_eq!(media_type(&response), "text/html");
        assert!(response.headers().contains_key("content-security-policy"));
        assert!(
            page.contains("<h1>") && !page.contains("{\"error\""),
            "{page}"
        );

        let program = server
            .http
            .request(method.clone(), format!("{}{path}", server.url));
        let response = program.header(ACCEPT, "*/*").send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let error: Value = response.json().await.unwrap();
        assert!(error["error"]["code"].is_string(), "{error}");
    }
    let options = browser(&server, Method::OPTIONS, "/").send().await.unwrap();
    assert_eq!(
        (options.status().as_u16(), &options.headers()[ALLOW]),
        (204, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
    // An error of the API is JSON for every client.
    let (response, _) = parted(browser(&server, Method::GET, "/api/nothing")).await;
    assert_eq!(media_type(&response), "application/json");
    server.stop().await;
}

#[tokio::test]
async fn head_of_a_page_is_its_get_without_the_body() {
    let server = TestServer::start().await;
    let cookie = session(&server, TOKEN).await;
    for path in ["/", "/login", "/keys"] {
        let (of_get, _) = get(&server, path, &cookie).await;
        let head = browser(&server, Method::HEAD, path).header(COOKIE, &cookie);
        let (of_head, body) = parted(head).await;
        assert_eq!(of_head.status(), of_get.status(), "{path}");
        assert!(body.is_empty());
        for name in ["content-type", "content-security-policy", "cache-control"] {
            assert_eq!(
                of_head.headers().get(name),
                of_get.headers().get(name),
                "{path}"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn choices_of_a_browser_are_cookies_that_pages_follow() {
    let server = TestServer::start().await;
    let session = session(&server, TOKEN).await;
    let (_, page) = get(&server, "/keys", &session).await;
    let (_, rest) = page.split_once("name=\"csrf_token\" value=\"").unwrap();
    let csrf = rest.split('"').next().unwrap();
    for (path, field, value, next, cookie, sent_to, shown) in [
        (
            "/theme",
            "theme",
            "dark",
            "/keys",
            "theme=dark",
            "/keys",
            "data-theme=\"dark\"",
        ),
        (
            "/theme",
            "theme",
            "light",
            "//evil.net",
            "theme=light",
            "/",
            "data-theme=\"light\"",
        ),
        (
            "/theme",
            "theme",
            "pink;a=b",
            "/",
            "theme=auto",
            "/",
            "<html lang=\"en\">",
        ),
        (
            "/keys",
            "keys",
            "off",
            "/keys",
            "keys=off",
            "/keys",
            "Turn them on",
        ),
        (
            "/keys",
            "keys",
            "on",
            "/keys",
            "keys=on",
            "/keys",
            "data-keys=\"on\"",
        ),
    ] {
        let form = browser(&server, Method::POST, path).header(COOKIE, &session);
        let fields = [("csrf_token", csrf), (field, value), ("next", next)];
        let response = fill(form, &fields).send().await.unwrap();
        let found = (
            response.status().as_u16(),
            response.headers()[LOCATION].to_str().unwrap(),
            response.headers()[SET_COOKIE].to_str().unwrap(),
        );
        let set = format!("{cookie}; Path=/; Max-Age=31536000; SameSite=Lax");
        assert_eq!(found, (303, sent_to, set.as_str()));
        let (_, page) = get(&server, "/keys", &format!("{session}; {cookie}")).await;
        assert!(page.contains(shown), "{cookie}: {page}");
    }
    let without = browser(&server, Method::POST, "/theme").header(COOKIE, &session);
    let (response, page) = parted(fill(without, &[("theme", "dark")])).await;
    assert!(
        response.status() == 403 && page.contains("load the page again"),
        "{page}"
    );
    server.stop().await;
}

#[tokio::test]
async fn parameter_that_a_page_does_not_know_is_named_and_left_out() {
    let server = TestServer::start().await;
    let cookie = session(&server, TOKEN).await;
    let (response, page) = get(&server, "/?stat=%3Cb%3Eopen", &cookie).await;
    assert_eq!(response.status(), 200);
    assert!(
        page.contains("has no parameter <code><bdi>stat</bdi></code>"),
        "{page}"
    );
    let (_, page) = get(&server, "/?%3Cb%3E=1", &cookie).await;
    assert!(
        page.contains("&lt;b&gt;") && !page.contains("<b>"),
        "{page}"
    );
    let (_, page) = get(&server, "/", &cookie).await;
    assert!(!page.contains("has no parameter"), "{page}");
    server.stop().await;
}
