//! Decisions about dead letters: what is asked before, what is done, and what became of it.

use maud::{Markup, html};

use super::dead_letters::{KEY, key_fields, pairs};
use super::layout::{Section, block};
use super::links::query_string;
use super::page::{PageRequest, PageResult};
use super::words;
use crate::api::{
    ApiError, DeadLetterKey, DeadLetterOrder, DeliveryItem, Page, discarded, requeued,
};

/// The most dead letters whose results are shown by id.
const MAX_SHOWN: usize = 100;
/// Characters of the reason of a discarding, as forms take it.
const MAX_REASON: usize = 200;

/// The dead letters that a decision is about.
struct ChosenLetters {
    ids: Vec<i64>,
    /// Without ids.
    group: DeadLetterKey,
    /// The newest of them, at most [`MAX_SHOWN`].
    newest: Vec<DeliveryItem>,
    /// All of them.
    number: u64,
}

/// Returns the group that the address chooses, if it does.
pub(super) fn key_of(page: &PageRequest) -> Option<DeadLetterKey> {
    let is_given = KEY.iter().any(|name| page.parameter(name).is_some());
    is_given.then(|| read_key(|name| page.parameter(name)))
}

fn read_key<'a>(value: impl Fn(&str) -> Option<&'a str>) -> DeadLetterKey {
    let [reason, event, repo] = KEY.map(|name| value(name).map(str::to_owned));
    DeadLetterKey {
        reason,
        event,
        repo,
    }
}

fn read_ids<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<i64>, ApiError> {
    let ids = texts.flat_map(|text| text.split(',')).map(str::parse);
    let ids: Result<Vec<_>, _> = ids.collect();
    ids.map_err(|_| ApiError::BadRequest("an id is not a number".to_owned()))
}

impl ChosenLetters {
    /// Reads the choice of an address.
    async fn of_address(page: &PageRequest) -> Result<Self, ApiError> {
        let ids = read_ids(page.values("id").chain(page.values("ids")))?;
        Self::read(page, ids, key_of(page).unwrap_or_default()).await
    }

    /// Reads the choice of a form.
    async fn of_form(page: &PageRequest) -> Result<Self, ApiError> {
        let ids = read_ids(page.field("ids").into_iter())?;
        Self::read(page, ids, read_key(|name| page.field(name))).await
    }

    async fn read(
        page: &PageRequest,
        ids: Vec<i64>,
        group: DeadLetterKey,
    ) -> Result<Self, ApiError> {
        let per_page = MAX_SHOWN.to_string();
        let rest = [("per_page", per_page.as_str()), ("count", "true")];
        let listed = if ids.is_empty() {
            let query = query_string(pairs(&group).into_iter().chain(rest));
            page.reads().dead_letters(&query).await?
        } else {
            let texts = joined(&ids);
            let of_ids = [("ids", texts.as_str()), ("state", "dead")];
            page.reads()
                .deliveries(&query_string(of_ids.into_iter().chain(rest)))
                .await?
        };
        Ok(Self {
            ids,
            group,
            number: listed.count.map_or(0, |count| count.n),
            newest: listed.items,
        })
    }

    fn order(&self) -> DeadLetterOrder {
        if self.ids.is_empty() {
            DeadLetterOrder::of_group(self.group.clone())
        } else {
            DeadLetterOrder::of_ids(self.ids.clone())
        }
    }

    /// Shows the hidden fields by which the form of a decision says what it is about.
    fn fields(&self) -> Markup {
        html! {
            @if self.ids.is_empty() { (key_fields(&self.group)) }
            @else { input type="hidden" name="ids" value=(joined(&self.ids)); }
            input type="hidden" name="expected" value=(self.number);
        }
    }

    /// Shows what the decision is about: how many, and how old.
    fn sentence(&self, page: &PageRequest) -> Markup {
        let ids = joined(&self.ids);
        let address = if self.ids.is_empty() {
            page.links.to("/dead-letters", pairs(&self.group))
        } else {
            let query = [("ids", ids.as_str()), ("state", "dead")];
            page.links.to("/deliveries", query)
        };
        let newest = self.newest.first().map(|item| item.received_at.as_str());
        let oldest = self.newest.last().map(|item| item.received_at.as_str());
        html! {
            p {
                "This is about "
                a href=(address) data-count { (words::grouped(self.number)) }
                @if self.number == 1 { " dead letter, received " } @else { " dead letters, the newest received " }
                (words::stated(newest))
                @if self.number > 1 && self.number <= MAX_SHOWN as u64 {
                    ", the oldest " (words::stated(oldest))
                }
                "."
            }
            @if let [(_, reason), ..] = pairs(&self.group) && !reason.is_empty() {
                p { "They died of: " bdi { (tallyhook_core::text::one_line(reason, 300)) } }
            }
        }
    }

    /// Returns the address of the results of a decision about these letters.
    fn results_at(&self, page: &PageRequest, done: &str, number: u64) -> String {
        let ids: Vec<_> = self.newest.iter().map(|item| item.id).collect();
        let (ids, number) = (joined(&ids), number.to_string());
        let expected = page.field("expected").unwrap_or_default();
        let results = [
            ("done", done),
            ("n", &number),
            ("ids", &ids),
            ("expected", expected),
        ];
        page.links.to(
            "/dead-letters",
            pairs(&self.group).into_iter().chain(results),
        )
    }
}

fn joined(ids: &[i64]) -> String {
    let texts: Vec<_> = ids.iter().map(i64::to_string).collect();
    texts.join(",")
}

/// Asks before many are tried again.
pub(super) async fn ask_to_try(page: PageRequest) -> PageResult {
    let chosen = ChosenLetters::of_address(&page).await?;
    let form = html! {
        form method="post" action=(page.links.path("/dead-letters/try")) {
            (page.csrf())
            (chosen.fields())
            p { "Each is applied as if it had just arrived. One that still cannot be applied is dead again, with its payload." }
            p .actions { button .primary { "Try them again" } (back(&page, &chosen)) }
        }
    };
    Ok(ask(&page, "Try them again?", &chosen, &form))
}

/// Asks before any is discarded, and for the reason.
pub(super) async fn ask_to_discard(page: PageRequest) -> PageResult {
    let chosen = ChosenLetters::of_address(&page).await?;
    let form = html! {
        form method="post" action=(page.links.path("/dead-letters/discard")) {
            (page.csrf())
            (chosen.fields())
            p { "They become ignored, and are not applied. Their payloads are kept for the retention time only, so export them first if you may need them." }
            label .field for="why" { "The reason, which is kept with each" }
            input #why name="why" required maxlength=(MAX_REASON) size="60" autocomplete="off";
            p .actions { button .danger { "Discard them" } (back(&page, &chosen)) }
        }
    };
    Ok(ask(&page, "Discard them?", &chosen, &form))
}

fn ask(
    page: &PageRequest,
    question: &str,
    chosen: &ChosenLetters,
    form: &Markup,
) -> actix_web::HttpResponse {
    let body = html! {
        @if chosen.number == 0 {
            p { "None of them is a dead letter now: they were decided, or nothing was chosen." }
            p { (back(page, chosen)) }
        } @else {
            (chosen.sentence(page))
            (form)
        }
    };
    page.show(Section::DeadLetters, question, &body)
}

fn back(page: &PageRequest, chosen: &ChosenLetters) -> Markup {
    let address = page.links.to("/dead-letters", pairs(&chosen.group));
    html! { a href=(address) { "Back" } }
}

/// Tries letters again: one of a group first, or all that were chosen.
pub(super) async fn try_again(page: PageRequest) -> PageResult {
    let mut chosen = ChosenLetters::of_form(&page).await?;
    let mut order = chosen.order();
    if page.field("one").is_some() {
        chosen.newest.truncate(1);
        order = DeadLetterOrder::of_ids(chosen.newest.iter().map(|item| item.id).collect());
    }
    let number = requeued(&page.api.instance().store, order).await?;
    Ok(page.redirect(&chosen.results_at(&page, "tried", number)))
}

/// Discards letters for a reason.
pub(super) async fn discard(page: PageRequest) -> PageResult {
    let chosen = ChosenLetters::of_form(&page).await?;
    let why = page.field("why").unwrap_or_default();
    let number = discarded(
        &page.api.instance().store,
        chosen.order(),
        why,
        &page.caller,
    )
    .await?;
    Ok(page.redirect(&chosen.results_at(&page, "discarded", number)))
}

/// Shows what became of the letters of the last decision, as the address names them.
pub(super) async fn results(page: &PageRequest) -> Markup {
    let Some(done) = page.parameter("done") else {
        return html! {};
    };
    let number = |name: &str| page.parameter(name).and_then(|n| n.parse::<u64>().ok());
    let (n, expected) = (number("n").unwrap_or_default(), number("expected"));
    let words = if done == "discarded" {
        "discarded"
    } else {
        "tried again"
    };
    let shown = match page.parameter("ids") {
        None => Ok(None),
        Some(ids) => {
            let query = [("ids", ids), ("per_page", "100")];
            let read = page.reads().deliveries(&query_string(query)).await;
            read.map(Some)
        }
    };
    html! {
        div .banner.good role="status" {
            p {
                span data-n="the number of a decision that was just made" { (words::grouped(n)) }
                @if n == 1 { " dead letter was " } @else { " dead letters were " } (words) "."
                @if n == 0 { " They were no dead letters any more: this was done already, here or elsewhere." }
                @else if let Some(expected) = expected.filter(|expected| *expected != n) {
                    " There were " span data-n="the number that the page before showed" { (words::grouped(expected)) }
                    " when you were asked; it changed since."
                }
            }
            (block(shown, |shown| outcomes(page, n, shown.as_ref())))
        }
    }
}

/// Shows the states of the letters, each with its list.
fn outcomes(page: &PageRequest, n: u64, shown: Option<&Page<DeliveryItem>>) -> Markup {
    let Some(shown) = shown.filter(|shown| n > 0 && !shown.items.is_empty()) else {
        return html! {};
    };
    let of = |state: &str| {
        let items = shown.items.iter();
        items.filter(|item| item.state.as_str() == state).count() as u64
    };
    let states = [
        ("applied", "applied"),
        ("ignored", "ignored"),
        ("dead", "dead again"),
        ("accepted", "not finished yet"),
    ];
    let ids: Vec<_> = shown.items.iter().map(|item| item.id).collect();
    let ids = joined(&ids);
    let found = states.map(|(state, words)| (state, words, of(state)));
    let found: Vec<_> = found.iter().filter(|(_, _, count)| *count > 0).collect();
    html! {
        p {
            @if shown.items.len() as u64 == n { "Now: " } @else { "Now, of the newest of them: " }
            @for (place, (state, words, count)) in found.iter().enumerate() {
                @if place > 0 { ", " }
                a href=(page.links.to("/deliveries", [("ids", ids.as_str()), ("state", *state)])) data-count {
                    (words::grouped(*count))
                }
                " " (words)
            }
            "."
        }
        @if let [only] = shown.items.as_slice() {
            p {
                a href=(page.links.path(&format!("/deliveries/{}", only.id))) { "Look at it" }
                @if let Some(reason) = &only.reason { ": " bdi { (tallyhook_core::text::one_line(reason, 300)) } }
            }
        }
    }
}
