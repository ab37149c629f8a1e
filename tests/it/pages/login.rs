//! Signing in by the pages: wrong tokens, links of other hosts, links that can be used once, and
//! addresses below a path.

use chrono::Utc;
use reqwest::header::{
    ACCEPT, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE,
};
use reqwest::{Method, RequestBuilder, Response, redirect};
use tallyhook::app::ServerOptions;
use tallyhook_store::{AccessRole, DEFAULT_TEAM};
use testkit::{Place, TOKEN, TestServer, config};

/// The `Accept` header of a browser that loads a page.
pub(super) const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Returns a request as a browser makes it that does not follow where it is sent.
pub(super) fn browser(server: &TestServer, method: Method, path: &str) -> RequestBuilder {
    let is_form = method == Method::POST;
    let request = unstated(server, method, path);
    match is_form {
        true => request.header(ORIGIN, &server.url),
        false => request,
    }
}

/// Returns such a request without the origin of its page.
fn unstated(server: &TestServer, method: Method, path: &str) -> RequestBuilder {
    let http = reqwest::Client::builder().redirect(redirect::Policy::none());
    let request = http.build().unwrap();
    let request = request.request(method, format!("{}{path}", server.url));
    request.header(ACCEPT, HTML)
}

pub(super) async fn get(server: &TestServer, path: &str, cookie: &str) -> (Response, String) {
    let request = browser(server, Method::GET, path).header(COOKIE, cookie);
    parted(request).await
}

/// Returns an answer, and its body.
pub(super) async fn parted(request: RequestBuilder) -> (Response, String) {
    let mut response = request.send().await.unwrap();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        body.extend_from_slice(&chunk);
    }
    (response, String::from_utf8(body).unwrap())
}

/// Gives a request the fields of a form.
pub(super) fn fill(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let mut form = form_urlencoded::Serializer::new(String::new());
    let body = form.extend_pairs(fields).finish();
    request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body)
}

fn submit(server: &TestServer, fields: &[(&str, &str)]) -> RequestBuilder {
    fill(browser(server, Method::POST, "/login"), fields)
}

/// Returns name and value of the cookie that an answer sets.
pub(super) fn cookie(response: &Response) -> String {
    let set = response.headers()[SET_COOKIE].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

pub(super) async fn session(server: &TestServer, token: &str) -> String {
    let response = submit(server, &[("token", token)]).send().await.unwrap();
    assert_eq!(response.status(), 303);
    cookie(&response)
}

fn location(response: &Response) -> &str {
    response.headers()[LOCATION].to_str().unwrap()
}

#[tokio::test]
async fn token_that_is_not_in_force_gives_the_form_again_with_one_sentence() {
    let server = TestServer::start().await;
    let store = &server.running.store;
    let revoked = server.create_token("leaver", AccessRole::Viewer).await;
    let cookie = session(&server, &revoked).await;
    assert_eq!(get(&server, "/", &cookie).await.0.status(), 200);
    assert!(
        store
            .revoke_token(DEFAULT_TEAM.0, "leaver", Utc::now())
            .await
            .unwrap()
    );
    let (ended, _) = get(&server, "/", &cookie).await;
    assert_eq!(
        (ended.status().as_u16(), location(&ended)),
        (303, "/login?next=%2F")
    );

    let mut pages = Vec::new();
    for wrong in [
        "wrong",
        &revoked,
        "tallyhook_\"><script>",
        &"x".repeat(3000),
    ] {
        let (response, page) = parted(submit(&server, &[("token", wrong)])).await;
        assert_eq!(response.status(), 401, "{wrong}");
        assert!(response.headers().get(SET_COOKIE).is_none());
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert!(response.headers().contains_key("content-security-policy"));
        pages.push(page);
    }
    assert!(
        pages.iter().all(|page| *page == pages[0]),
        "the sentence is not the same one"
    );
    assert!(pages[0].contains("role=\"alert\"") && pages[0].contains("This token is not valid"));
    let field =
        "name=\"token\" autocomplete=\"current-password\" required autofocus aria-describedby";
    assert!(pages[0].contains(field), "{}", pages[0]);
    for (fields, status, sentence) in [
        (&[("token", "")][..], 400, "Enter a token."),
        (&[], 400, "Enter a token."),
    ] {
        let (response, page) = parted(submit(&server, fields)).await;
        assert!(
            response.status() == status && page.contains(sentence),
            "{page}"
        );
    }
    let foreign = fill(
        unstated(&server, Method::POST, "/login"),
        &[("token", TOKEN)],
    );
    let foreign = foreign.header(ORIGIN, "https://evil.example.net");
    let (response, page) = parted(foreign).await;
    assert!(
        response.status() == 403 && page.contains("You are not signed in"),
        "{page}"
    );
    server.stop().await;
}

#[tokio::test]
async fn twenty_wrong_tokens_give_a_pause_and_a_valid_one_passes() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let wrong = submit(&server, &[("token", "wrong")]).send().await.unwrap();
        assert_eq!(wrong.status(), 401);
    }
    let (response, page) = parted(submit(&server, &[("token", "wrong")])).await;
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key(RETRY_AFTER));
    assert!(page.contains("many wrong tokens. Wait a minute"), "{page}");
    session(&server, TOKEN).await;
    server.stop().await;
}

#[tokio::test]
async fn browser_goes_on_within_this_server_alone() {
    let server = TestServer::start().await;
    let cookie = session(&server, TOKEN).await;
    for (next, expected) in [
        ("/prs?state=open", "/prs?state=open"),
        ("", "/"),
        ("//evil.net", "/"),
        ("/\\evil.net", "/"),
        ("https://evil.net/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: b=c", "/"),
        ("/\t/evil.net", "/"),
    ] {
        let fields = [("token", TOKEN), ("next", next)];
        let response = submit(&server, &fields).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), location(&response)),
            (303, expected)
        );
        // A browser with a session is sent on at once.
        let address = reqwest::Url::parse_with_params(&server.url, [("next", next)]).unwrap();
        let path = format!("/login?{}", address.query().unwrap());
        let (response, _) = get(&server, &path, &cookie).await;
        assert_eq!(
            (response.status().as_u16(), location(&response)),
            (303, expected)
        );
    }
    let (response, page) = get(&server, "/login?next=//evil.net", "").await;
    assert!(
        response.status() == 200 && page.contains("name=\"next\" value=\"/\""),
        "{page}"
    );
    let (response, _) = get(&server, "/?state=open&q=%C3%A4", "").await;
    assert_eq!(
        location(&response),
        "/login?next=%2F%3Fstate%3Dopen%26q%3D%25C3%25A4"
    );
    server.stop().await;
}

#[tokio::test]
async fn link_signs_in_once_and_only_when_its_button_is_pressed() {
    let server = TestServer::start().await;
    let logins = &server.running.one_time_logins;
    let path = logins.create(TOKEN, tokio::time::Instant::now());
    for _ in 0..2 {
        // As a program that looks at links before a person does.
        let (response, page) = get(&server, &path, "").await;
        assert_eq!(response.status(), 200);
        assert!(response.headers().get(SET_COOKIE).is_none());
        assert!(
            page.contains(&format!("method=\"post\" action=\"{path}\"")),
            "{page}"
        );
    }
    let press = |path: &str| browser(&server, Method::POST, path);
    let foreign = unstated(&server, Method::POST, &path);
    let foreign = foreign.header(ORIGIN, "https://evil.example.net");
    let foreign = foreign.send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    let response = press(&path).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), location(&response)),
        (303, "/")
    );
    let cookie = cookie(&response);
    assert_eq!(get(&server, "/", &cookie).await.0.status(), 200);
    for used_or_unknown in [path.as_str(), "/login/once/0000"] {
        let (response, page) = parted(press(used_or_unknown)).await;
        assert_eq!(response.status(), 401);
        assert!(
            page.contains("was used before, or is older than ten minutes"),
            "{page}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn server_below_a_path_works_whether_its_proxy_keeps_the_path_or_not() {
    let place = Place::new().await;
    let mut config = config(&place);
    config.public_url = Some("https://tools.example.com/tallyhook".parse().unwrap());
    let server = TestServer::start_as(&config, place, ServerOptions::default()).await;
    for prefix in ["", "/tallyhook"] {
        for host in ["tools.example.com", "127.0.0.1:8080"] {
            let request = |method, path: &str| {
                let request = unstated(&server, method, &format!("{prefix}{path}"));
                request.header(HOST, host)
            };
            let (response, _) = parted(request(Method::GET, "/?a=b")).await;
            assert_eq!(location(&response), "/tallyhook/login?next=%2F%3Fa%3Db");
            let login = request(Method::POST, "/login").header(ORIGIN, "https://tools.example.com");
            let login = fill(login, &[("token", TOKEN), ("next", "/prs?a=b")]);
            let response = login.send().await.unwrap();
            assert_eq!(location(&response), "/tallyhook/prs?a=b", "{prefix} {host}");
            let set = response.headers()[SET_COOKIE].to_str().unwrap();
            let (pair, attributes) = set.split_once("; ").unwrap();
            assert!(pair.starts_with("__Secure-tallyhook="), "{set}");
            assert_eq!(
                attributes,
                "Path=/tallyhook; Max-Age=2592000; HttpOnly; SameSite=Lax; Secure"
            );
            let (response, page) = parted(request(Method::GET, "/").header(COOKIE, pair)).await;
            assert_eq!(response.status(), 200);
            let addresses = page.split(['"', '\'']).filter(|text| text.starts_with('/'));
            let mut count = 0;
            for address in addresses.filter(|text| !["/", "/keys"].contains(text)) {
                assert!(address.starts_with("/tallyhook"), "{address}");
                count += 1;
            }
            assert!(count > 8, "{page}");
            let foreign = request(Method::POST, "/login").header(ORIGIN, "https://example.com");
            let foreign = fill(foreign, &[("token", TOKEN)]).send().await.unwrap();
            assert_eq!(foreign.status(), 403);
        }
    }
    let hook = format!("{}/tallyhook/webhooks/github", server.url);
    let ping = server.signed("ping", "guid", b"{}").build().unwrap();
    let mut below = server.http.post(hook).body("{}");
    for (name, value) in ping.headers() {
        below = below.header(name, value);
    }
    assert_eq!(below.send().await.unwrap().status(), 200);
    let neighbour = format!("{}/tallyhookx/login", server.url);
    assert_eq!(
        server.http.get(neighbour).send().await.unwrap().status(),
        404
    );
    server.stop().await;
}
