//! Requests for pages and their forms, with a token in place of a session.

use reqwest::header::LOCATION;
use reqwest::{RequestBuilder, redirect};
use testkit::{TOKEN, TestServer};

use super::browser::with_fields;

/// Returns the status and the text of a page.
pub(super) async fn page_as(server: &TestServer, token: &str, path: &str) -> (u16, String) {
    let request = http().get(format!("{}{path}", server.url));
    let (status, _, text) = answer(request, token).await;
    (status, text)
}

/// Returns the text of a page that is there.
pub(super) async fn page(server: &TestServer, path: &str) -> String {
    let (status, text) = page_as(server, TOKEN, path).await;
    assert_eq!(status, 200, "{path}: {text}");
    text
}

/// Sends a form and returns the status, the address of the next page, and the text.
pub(super) async fn form_as(
    server: &TestServer,
    token: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> (u16, String, String) {
    let request = http().post(format!("{}{path}", server.url));
    answer(with_fields(request, fields), token).await
}

/// Sends a form that is taken and returns the address of the next page.
pub(super) async fn form(server: &TestServer, path: &str, fields: &[(&str, &str)]) -> String {
    let (status, location, text) = form_as(server, TOKEN, path, fields).await;
    assert_eq!(status, 303, "{path}: {text}");
    location
}

/// Returns a client that does not follow where it is sent.
fn http() -> reqwest::Client {
    let http = reqwest::Client::builder().redirect(redirect::Policy::none());
    http.build().unwrap()
}

async fn answer(request: RequestBuilder, token: &str) -> (u16, String, String) {
    let answer = request.bearer_auth(token).send().await.unwrap();
    let location = answer.headers().get(LOCATION);
    let location = location.map_or("", |location| location.to_str().unwrap());
    let (status, location) = (answer.status().as_u16(), location.to_owned());
    (status, location, answer.text().await.unwrap())
}

/// Asserts that a page has each of these texts.
#[track_caller]
pub(super) fn assert_has(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text} is not in:\n{page}");
    }
}
