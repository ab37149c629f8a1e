//! A walk over every link of every page, and over the numbers on them.
//!
//! A number of a page that counts something is a link to a list of exactly that many rows. To a
//! reader of the page's HTML it is one of these, and any other digit fails the test:
//!
//! - `<a href=LIST data-count>86</a>`: the list behind it has exactly that many rows;
//! - a time, in `<time>`;
//! - a name, in `<bdi>`, `<code>`, `<kbd>`, `<pre>`, or a link with more words than the number;
//! - a measure: with decimals, a unit or a percent sign, such as `8.20`, `3 d 4 h` or `40 %`;
//! - a number of a pull request or a place in a list, such as `#109`;
//! - a choice of a form;
//! - a chart, whose numbers are in the table beside it;
//! - an exception, in an element whose `data-n` has the reason. The test prints the reasons.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

use actix_web::http::Method;
use regex::Regex;
use tallyhook::dashboard::page_calls;
use testkit::TOKEN;
use testkit::html::{ElementRef, Html, names_of, select, text_of};

use super::browser::{Browser, Furnished};
use super::table::{addresses, fits};

/// The elements in which a digit is no count.
const NO_COUNT: [&str; 11] = [
    "bdi", "code", "kbd", "label", "option", "pre", "select", "svg", "textarea", "time", "title",
];
/// Addresses of one path with the same parameters that are read for more links. All links are
/// followed; those on further ones are of the same kind.
const READ_OF_A_KIND: usize = 4;
/// The most pages of a list.
const MAX_PAGES: usize = 50;

/// A measure or a number with a sign, which counts nothing.
static MEASURE: LazyLock<Regex> = LazyLock::new(|| {
    let units = "ms|s|min|h|d|w|%|B|kB|KiB|MB|MiB|GB|GiB|px";
    let pattern = format!(
        r"\d[\d,]*\.\d+\s*(?:(?:{units})\b|%)?|\d[\d,]*\s*(?:(?:{units})\b|%)|[#v]\d[\d.]*"
    );
    Regex::new(&pattern).unwrap()
});
static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d[\d,]*\+?$").unwrap());

/// The walk so far.
#[derive(Default)]
struct Walk {
    known: BTreeSet<String>,
    open: VecDeque<String>,
    read: BTreeMap<String, usize>,
    failures: Vec<String>,
    /// Reasons of numbers that count nothing, each with an example.
    exceptions: BTreeMap<String, String>,
    counted: usize,
}

impl Walk {
    fn add(&mut self, address: &str) {
        let address = address.split('#').next().unwrap();
        if self.known.insert(address.to_owned()) {
            self.open.push_back(address.to_owned());
        }
    }

    /// Returns true for the first few addresses of a kind.
    fn reads(&mut self, address: &str) -> bool {
        let read = self.read.entry(kind_of(address)).or_default();
        *read += 1;
        *read <= READ_OF_A_KIND
    }

    /// Keeps the links of a page, and checks where its forms lead.
    fn take_links(&mut self, address: &str, page: &Html) {
        for link in select(page, "a[href]") {
            let href = link.attr("href").unwrap();
            match href.chars().next() {
                Some('/') => self.add(href),
                Some('?') => self.add(&absolute(address, href)),
                _ => {}
            }
        }
        for form in select(page, "form") {
            let action = form.attr("action").unwrap_or(address);
            let method = form.attr("method").unwrap_or("get").to_uppercase();
            let is_known = action == "/logout"
                || page_calls()
                    .iter()
                    .any(|call| call.method.as_str() == method && fits(call.path, action));
            if !is_known {
                let failure = format!("{address}: no such form: {method} {action}");
                self.failures.push(failure);
            }
        }
    }

    /// Checks every digit of a page, and returns the links that are counts.
    fn take_numbers(&mut self, address: &str, page: &Html) -> Vec<(String, String)> {
        let mut counts = Vec::new();
        for element in select(page, "body *") {
            if let Some(reason) = element.attr("data-n") {
                let example = format!("{} ({address})", text_of(element));
                self.exceptions.entry(reason.to_owned()).or_insert(example);
                if reason.split_whitespace().count() < 2 {
                    let failure = format!("{address}: data-n without a reason: {reason:?}");
                    self.failures.push(failure);
                }
            }
            if element.value().name() == "a" {
                let (text, href) = (text_of(element), element.attr("href"));
                match (element.attr("data-count"), href) {
                    (Some(_), Some(href)) => counts.push((href.to_owned(), text)),
                    (None, Some(_)) if !NUMBER.is_match(&text) || is_excepted(element) => {}
                    _ => {
                        let failure = format!("{address}: a link that counts nothing: {text}");
                        self.failures.push(failure);
                    }
                }
                continue;
            }
            let own = element
                .children()
                .filter_map(|child| child.value().as_text());
            for text in own.filter(|text| has_digit(&MEASURE.replace_all(text, ""))) {
                let is_name = names_of(element).any(|name| name == "a" || NO_COUNT.contains(&name));
                if !is_name && !is_excepted(element) {
                    let failure = format!("{address}: a number without a link: {}", text.trim());
                    self.failures.push(failure);
                }
            }
        }
        counts
    }
}

fn has_digit(text: &str) -> bool {
    text.contains(|letter: char| letter.is_ascii_digit())
}

/// Returns true within an element that has the reason why its numbers count nothing.
fn is_excepted(element: ElementRef<'_>) -> bool {
    let mut around = element.ancestors().filter_map(ElementRef::wrap);
    let is_list = element.attr("id") == Some("count");
    is_list || element.attr("data-n").is_some() || around.any(|one| one.attr("data-n").is_some())
}

/// Returns the path of a page that an address is of, with the names of its parameters.
fn kind_of(address: &str) -> String {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let calls = page_calls();
    let call = calls
        .iter()
        .find(|call| call.method == Method::GET && fits(call.path, path));
    let names: BTreeSet<_> = form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name.into_owned())
        .collect();
    format!("{} {names:?}", call.map_or(path, |call| call.path))
}

/// Returns where a link of a page leads.
fn absolute(page: &str, href: &str) -> String {
    match href.strip_prefix('?') {
        Some(query) => format!("{}?{query}", page.split('?').next().unwrap()),
        None => href.to_owned(),
    }
}

/// Returns the number of rows of a list, and what the list says of it.
async fn rows_of(browser: &Browser, list: &str) -> Result<(usize, String), String> {
    let (mut rows, mut said) = (0, String::new());
    let mut next = Some(list.to_owned());
    for _ in 0..MAX_PAGES {
        let Some(address) = next else {
            return Ok((rows, said));
        };
        let answer = browser.get(&address).await;
        if answer.status != 200 {
            return Err(format!("{address}: {}", answer.status));
        }
        let page = Html::parse_document(&answer.body);
        let counts = select(&page, "#count[data-count]");
        if let (Some(count), true) = (counts.first(), said.is_empty()) {
            said = count.attr("data-count").unwrap().to_owned();
        }
        rows += select(&page, "main tbody tr[id]").len();
        let older = select(&page, "a[rel=next]");
        let older = older.first().and_then(|link| link.attr("href"));
        next = older.map(|href| absolute(&address, href));
    }
    Err(format!("{list}: more than {MAX_PAGES} pages"))
}

#[tokio::test]
async fn every_link_leads_somewhere_and_every_number_to_its_rows() {
    let Furnished { server, .. } = &Furnished::start().await;
    let browser = Browser::signed_in(server, TOKEN).await;
    let mut walk = Walk::default();
    for address in addresses() {
        walk.add(&address);
    }
    let mut lists: BTreeMap<String, Result<(usize, String), String>> = BTreeMap::new();
    while let Some(address) = walk.open.pop_front() {
        let answer = browser.get(&address).await;
        if answer.status == 303 {
            walk.add(answer.header("location"));
            continue;
        }
        if answer.status != 200 {
            walk.failures.push(format!("{address}: {}", answer.status));
            continue;
        }
        if !answer.is_page() || !walk.reads(&address) {
            continue;
        }
        let page = Html::parse_document(&answer.body);
        walk.take_links(&address, &page);
        for (list, number) in walk.take_numbers(&address, &page) {
            walk.counted += 1;
            if !lists.contains_key(&list) {
                lists.insert(list.clone(), rows_of(&browser, &list).await);
            }
            let expected = number.replace(',', "");
            match &lists[&list] {
                Err(failure) => walk.failures.push(format!("{address}: {failure}")),
                Ok((rows, said)) if rows.to_string() == expected && *said == expected => {}
                Ok((rows, said)) => walk.failures.push(format!(
                    "{address}: {number} leads to {rows} rows, which say {said:?}: {list}"
                )),
            }
        }
    }
    println!("{} addresses, {} numbers", walk.known.len(), walk.counted);
    for (reason, example) in &walk.exceptions {
        println!("no link: {reason}: {example}");
    }
    walk.failures.sort();
    walk.failures.dedup();
    assert!(walk.failures.is_empty(), "{:#?}", walk.failures);
}
