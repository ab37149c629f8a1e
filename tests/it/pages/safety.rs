//! Safety of every page and form: the callers that it admits, its headers, and foreign text on it.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::http::Method;
use serde_json::json;
use tallyhook::dashboard::{PageCall, page_calls};
use tallyhook_store::AccessRole;
use testkit::html::{ElementRef, Html, names_of, select};
use testkit::payloads::{self, Account, Label, Pr, Team, World};
use testkit::{TOKEN, TestServer};

use super::browser::{Browser, Furnished, Seen, seen, with_fields};
use super::table::{addresses, fits, pages};

/// The headers of every answer of the dashboard, and what each must contain.
const HEADERS: [(&str, &str); 6] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-robots-tag", "noindex"),
    ("cache-control", ""),
];
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

#[track_caller]
fn assert_headers(what: &str, answer: &Seen) {
    for (name, value) in HEADERS {
        let found = answer.header(name);
        assert!(
            !found.is_empty() && found.contains(value),
            "{what}: {name} is `{found}`"
        );
    }
    assert_eq!(answer.header("content-security-policy"), POLICY, "{what}");
    let caching = answer.header("cache-control");
    let is_file = what.contains("/assets/") && answer.status == 200;
    assert_eq!(caching.contains("no-store"), !is_file, "{what}: {caching}");
}

/// Returns an address of a page, or one of a form at which there is nothing to change.
async fn address_of(call: &PageCall, unknown: &Browser) -> String {
    if call.method != Method::GET {
        let parts = call.path.split('/').map(|part| match part {
            "{owner}" | "{repo}" => "nothing",
            part if part.contains('{') => "9999999",
            part => part,
        });
        return parts.collect::<Vec<_>>().join("/");
    }
    if let Some(address) = pages()[call.path].first() {
        return address.clone();
    }
    let login = Html::parse_document(&unknown.get("/login").await.body);
    let files = select(&login, "link[rel=stylesheet]");
    files[0].attr("href").unwrap().to_owned()
}

/// Asserts that a request without a session is sent to the login, and that one of our module gets
/// a status.
async fn assert_unknown_is_refused(call: &PageCall, address: &str, unknown: &Browser) {
    let what = format!("{} {address} of no session", call.method);
    let request = || unknown.request(call.method.as_str(), address);
    let answer = seen(request()).await;
    assert_headers(&what, &answer);
    if call.role.is_none() {
        // A request that is no form, or lacks its fields, is refused for that.
        let expected: &[u16] = if call.method == Method::GET {
            &[200]
        } else {
            &[400, 401, 415]
        };
        assert!(
            expected.contains(&answer.status),
            "{what}: {}",
            answer.status
        );
        return;
    }
    let sent_to = answer.header("location");
    assert_eq!(
        (answer.status, sent_to.split('?').next()),
        (303, Some("/login")),
        "{what}"
    );
    let region = request().header("X-Tallyhook-Region", "now");
    assert_eq!(seen(region).await.status, 401, "{what}");
}

/// Returns true if a page sends its browser to another one, which is not the login.
fn is_sent_on(answer: &Seen) -> bool {
    let sent_to = answer.header("location");
    answer.status == 303 && sent_to.starts_with('/') && !sent_to.starts_with("/login")
}

/// Asserts that a form is refused where another site's page may have sent it.
async fn assert_forged_is_refused(call: &PageCall, address: &str, operator: &Browser, own: &str) {
    let token = operator.form_token.as_str();
    for (origin, token) in [
        (Some("https://evil.example.net"), Some(token)),
        (Some("null"), Some(token)),
        (None, Some(token)),
        (Some(own), None),
        (Some(own), Some("")),
        (Some(own), Some("0000000000000000")),
    ] {
        let mut form = operator.request(call.method.as_str(), address);
        if let Some(origin) = origin {
            form = form.header("Origin", origin);
        }
        let fields: Vec<_> = token
            .map(|token| ("csrf_token", token))
            .into_iter()
            .collect();
        let answer = seen(with_fields(form, &fields)).await;
        let what = format!("{address} from {origin:?} with {token:?}");
        assert_eq!(answer.status, 403, "{what}");
        assert_headers(&what, &answer);
    }
    // A body that is no form carries no token: it is not read.
    let json = operator.request(call.method.as_str(), address);
    let answer = seen(json.header("Origin", own).json(&json!({}))).await;
    assert!(
        [403, 415].contains(&answer.status),
        "{address}: {}",
        answer.status
    );
}

#[tokio::test]
async fn page_admits_its_role_and_those_above_it_alone() {
    let Furnished { server, .. } = &Furnished::start().await;
    let unknown = Browser::unknown(server);
    let mut browsers = BTreeMap::new();
    let mut tokens = BTreeMap::new();
    for role in AccessRole::ALL {
        let token = match role {
            AccessRole::Operator => TOKEN.to_owned(),
            role => server.create_token(role.as_str(), role).await,
        };
        browsers.insert(role, Browser::signed_in(server, &token).await);
        tokens.insert(role, token);
    }
    // While there is one team, its admins are operators.
    let insert = "INSERT INTO teams (id, name) VALUES (2, 'other')";
    server.place.execute(insert).await;
    for call in page_calls() {
        let address = address_of(&call, &unknown).await;
        assert_unknown_is_refused(&call, &address, &unknown).await;
        if call.method != Method::GET && call.role.is_some() {
            let operator = &browsers[&AccessRole::Operator];
            assert_forged_is_refused(&call, &address, operator, &server.url).await;
        }
        for (role, browser) in &mut browsers {
            let answer = match call.method {
                Method::GET => browser.get(&address).await,
                _ => browser.submit(&address, &[]).await,
            };
            let what = format!("{} {address} of a {role}", call.method);
            assert_headers(&what, &answer);
            let is_admitted = call.role.is_none_or(|needed| *role >= needed);
            let status = answer.status;
            match is_admitted {
                true if call.role.is_none() => assert!(status < 500, "{what}: {status}"),
                true if call.method == Method::GET => assert!(
                    status == 200 || is_sent_on(&answer),
                    "{what}: {status} {}",
                    answer.header("location")
                ),
                true => assert!(
                    ![401, 403].contains(&status) && status < 500,
                    "{what}: {status} {}",
                    answer.body
                ),
                false => assert_eq!(status, 403, "{what}"),
            }
            if call.path == "/settings/sessions/end" {
                *browser = Browser::signed_in(server, &tokens[role]).await;
            }
        }
    }
}

/// Texts that become markup where they are not escaped, or change how the text beside them reads.
const HOSTILE: [&str; 6] = [
    r#"<xss-a data-xss="1">"#,
    r#""><img src=x onerror=xss(1) data-xss=1>"#,
    r"' onmouseover='xss(1)' data-xss='1",
    "</title></textarea></script><script data-xss>xss(1)</script>",
    "javascript:xss(1)//",
    "\u{202e}xss gnp.exe",
];
/// A part that each of [`HOSTILE`] has, and nothing of ours.
const MARK: &str = "xss";
/// The elements whose text is apart from that beside it.
const APART: [&str; 7] = [
    "bdi", "code", "pre", "option", "textarea", "title", "button",
];
/// The attributes that may have foreign text.
const ATTRIBUTES: [&str; 6] = ["value", "title", "aria-label", "href", "action", "content"];

/// Posts a pull request for each hostile text, which stands wherever a sender can write one.
async fn post_hostile(server: &mut TestServer) {
    let world = World::acme();
    for (number, text) in (9001..).zip(HOSTILE) {
        let account = Account::user(8_000_000 + number, text);
        let mut pr = Pr::new(
            &world,
            number,
            Some(&account),
            text,
            text,
            "2026-03-02T08:30:00Z",
        );
        pr.body = Some(text.to_owned());
        pr.base_ref = text.to_owned();
        pr.labels = vec![Label {
            id: number,
            name: text.to_owned(),
        }];
        pr.requested_reviewers = vec![account.clone()];
        pr.requested_teams = vec![Team {
            id: number,
            slug: text.to_owned(),
        }];
        let event = payloads::pull_request_event(&pr, "opened", &account, json!({}));
        let guid = format!("hostile-{number}");
        let body = event.to_string().into_bytes();
        server.post("pull_request", &guid, &body).await;
        // One that cannot be read, and whose error quotes it.
        let body = json!({"action": text, "number": text, "pull_request": text}).to_string();
        let guid = format!("{number}-<xss-guid>");
        server.post("pull_request", &guid, body.as_bytes()).await;
    }
    server.drained().await;
}

/// Asserts that no element or attribute of a page is one of a hostile text, and returns how many
/// of its texts have one.
#[track_caller]
fn assert_only_ours(address: &str, body: &str) -> usize {
    let page = Html::parse_document(body);
    let mut texts = 0;
    for element in select(&page, "*") {
        let name = element.value().name();
        let what = || {
            format!(
                "{address}: {}",
                element.html().chars().take(200).collect::<String>()
            )
        };
        let is_foreign = name.contains(MARK)
            || [
                "base", "embed", "iframe", "img", "object", "style", "template",
            ]
            .contains(&name);
        assert!(!is_foreign, "{}", what());
        if name == "script" {
            assert!(
                element
                    .attr("src")
                    .is_some_and(|src| src.starts_with("/assets/")),
                "{}",
                what()
            );
            assert!(
                element.text().all(|text| text.trim().is_empty()),
                "{}",
                what()
            );
        }
        for (attribute, value) in element.value().attrs() {
            assert!(
                !attribute.contains(MARK)
                    && !attribute.starts_with("on")
                    && !["style", "srcdoc", "http-equiv"].contains(&attribute),
                "{}",
                what()
            );
            assert!(
                !value.contains(MARK) || ATTRIBUTES.contains(&attribute),
                "{}",
                what()
            );
            if ["href", "action", "formaction", "src"].contains(&attribute) {
                let is_ours = value.starts_with('/') && !value.starts_with("//");
                let is_known = is_ours
                    || value.is_empty()
                    || value.starts_with(['#', '?'])
                    || value.starts_with("https://github.com/");
                assert!(is_known, "{}", what());
            }
        }
        texts += assert_foreign_text_is_apart(element, &what());
    }
    texts
}

#[track_caller]
fn assert_foreign_text_is_apart(element: ElementRef<'_>, what: &str) -> usize {
    let own = element
        .children()
        .filter_map(|child| child.value().as_text());
    let foreign = own.filter(|text| text.contains(MARK)).count();
    let is_apart = names_of(element).any(|name| APART.contains(&name));
    assert!(foreign == 0 || is_apart, "not in <bdi>: {what}");
    foreign
}

/// Returns the addresses at which each field of a page's filters has a hostile value.
fn hostile_addresses(address: &str, body: &str) -> BTreeSet<String> {
    let page = Html::parse_document(body);
    let fields = select(&page, "form[method=get] [name], form:not([method]) [name]");
    let names = fields.iter().filter_map(|field| field.attr("name"));
    let path = address.split('?').next().unwrap();
    let of_field = |name: &str| {
        HOSTILE.map(|text| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair(name, text);
            format!("{path}?{}", query.finish())
        })
    };
    names.chain(["next"]).flat_map(of_field).collect()
}

#[tokio::test]
async fn foreign_text_is_only_text() {
    let mut furnished = Furnished::start().await;
    post_hostile(&mut furnished.server).await;
    let browser = Browser::signed_in(&furnished.server, TOKEN).await;
    let mut open: Vec<_> = addresses();
    for path in pages()
        .keys()
        .filter(|path| path.ends_with("/prs/{number}"))
    {
        let of_each =
            (9001..9007).map(|number| format!("/repos/acme-corp/api-server/prs/{number}"));
        open.extend(of_each.filter(|address| fits(path, address)));
    }
    let mut texts = 0;
    for address in open {
        let answer = browser.get(&address).await;
        if answer.status != 200 || !answer.is_page() {
            assert!(
                answer.status == 200 || is_sent_on(&answer),
                "{address}: {}",
                answer.status
            );
            continue;
        }
        texts += assert_only_ours(&address, &answer.body);
        for hostile in hostile_addresses(&address, &answer.body) {
            let answer = browser.get(&hostile).await;
            assert!(answer.status < 500, "{hostile}: {}", answer.status);
            assert_only_ours(&hostile, &answer.body);
        }
    }
    assert!(texts > 0, "no page shows a hostile text");
}
