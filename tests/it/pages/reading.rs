//! Pages read as text: their numbers with a list behind them, and their rows.

use reqwest::header::ACCEPT;
use serde_json::Value;
use testkit::{TOKEN, TestServer};

/// Gets a page and returns its status and its HTML.
pub(super) async fn page(server: &TestServer, address: &str) -> (u16, String) {
    let request = server.http.get(format!("{}{address}", server.url));
    let response = request.bearer_auth(TOKEN).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

/// Gets a page that is there.
pub(super) async fn shown(server: &TestServer, address: &str) -> String {
    let (status, html) = page(server, address).await;
    assert_eq!(status, 200, "{address}: {html}");
    html
}

/// Returns the address and the number of each link that says how many rows its list has.
pub(super) fn counts(html: &str) -> Vec<(String, u64)> {
    let links = html.split("<a href=\"").skip(1);
    let count = |link: &str| {
        let (address, rest) = link.split_once('"')?;
        let number = rest.strip_prefix(" data-count>")?.split('<').next()?;
        let number = number.replace(',', "").parse().unwrap();
        Some((address.replace("&amp;", "&"), number))
    };
    links.filter_map(count).collect()
}

/// Returns the part of a page from the element with this id on, up to the next of its kind.
pub(super) fn part<'a>(html: &'a str, element: &str, id: &str) -> &'a str {
    let begin = format!("<{element} id=\"{id}\"");
    let found = html.find(&begin);
    let from = found.unwrap_or_else(|| panic!("no {begin} in {html}"));
    let part = &html[from..];
    let end = part.find(&format!("</{element}>"));
    &part[..end.unwrap_or(part.len())]
}

/// Returns the ids of the rows of a list, and what it says of their number.
pub(super) fn rows(html: &str) -> (Vec<String>, Option<u64>) {
    let rows = html.split("<tr id=\"pr-").skip(1);
    let ids = rows.map(|row| row.split('"').next().unwrap().to_owned());
    let said = html.split("id=\"count\" data-count=\"").nth(1);
    let said = said.map(|said| said.split('"').next().unwrap().parse().unwrap());
    (ids.collect(), said)
}

/// Returns the address of the next page of a list.
pub(super) fn next(html: &str) -> Option<String> {
    let link = html.split("<a rel=\"next\" href=\"").nth(1)?;
    Some(link.split('"').next()?.replace("&amp;", "&"))
}

/// A list in its three forms: ids of its rows as a page, as JSON and as CSV.
pub(super) struct ThreeForms {
    pub(super) html: Vec<String>,
    pub(super) json: Vec<String>,
    pub(super) csv: Vec<String>,
    /// The number of rows that the page and the JSON say.
    pub(super) said: [Option<u64>; 2],
}

/// Reads all pages of `/prs?query` in each form.
pub(super) async fn three_forms(server: &TestServer, query: &str) -> ThreeForms {
    let (mut html, mut said) = (Vec::new(), None);
    let mut address = Some(format!("/prs?{query}"));
    while let Some(at) = address {
        let page = shown(server, &at).await;
        let (ids, count) = rows(&page);
        html.extend(ids);
        said = said.or(count);
        address = next(&page);
    }
    let (mut json, mut count) = (Vec::new(), None);
    let mut cursor = String::new();
    loop {
        let path = format!("/api/prs?{query}&per_page=100&count=true{cursor}");
        let (status, answer) = server.get(&path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let items = answer["items"].as_array().unwrap().iter();
        json.extend(items.map(|item| item["pr_id"].as_str().unwrap().to_owned()));
        count = count.or(answer["count"]["n"].as_u64());
        let Some(next) = answer["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    ThreeForms {
        html,
        json,
        csv: csv(server, query).await,
        said: [said, count],
    }
}

async fn csv(server: &TestServer, query: &str) -> Vec<String> {
    let request = server.http.get(format!("{}/prs.csv?{query}", server.url));
    let request = request.header(ACCEPT, "text/html").bearer_auth(TOKEN);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{query}");
    let text = response.text().await.unwrap();
    let mut lines = csv::Reader::from_reader(text.as_bytes());
    let place = lines
        .headers()
        .unwrap()
        .iter()
        .position(|name| name == "pr_id");
    let id = |row: csv::StringRecord| row[place.unwrap()].to_owned();
    lines.records().map(|row| id(row.unwrap())).collect()
}

/// Returns an answer of the API.
pub(super) async fn json(server: &TestServer, path: &str) -> Value {
    let (status, answer) = server.get(path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}
