//! A person's choices that a browser keeps: the theme, and single keys as commands.

use actix_web::HttpResponse;
use actix_web::http::header::{LOCATION, SET_COOKIE};
use maud::html;

use super::layout::Section;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use crate::api::{AccessRole, is_own_path};

/// The keys that are commands, with what they do.
const KEYS: [(&str, &str); 14] = [
    ("?", "this page"),
    ("g then o", "Overview"),
    ("g then p", "Pull requests"),
    ("g then f", "Flow"),
    ("g then l", "Load"),
    ("g then r", "Repositories"),
    ("g then t", "Tasks"),
    ("g then d", "Deliveries"),
    ("g then x", "Dead letters"),
    ("g then h", "Health"),
    ("/", "to the search field, or the first filter"),
    ("j, k", "to the next row, to the one before"),
    ("Enter", "opens the row"),
    ("r", "shows the page as it is now"),
];

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/keys", AccessRole::Viewer, keys),
        PageRoute::form("/keys", AccessRole::Viewer, set_keys),
        PageRoute::form("/theme", AccessRole::Viewer, set_theme),
    ]
}

async fn keys(page: PageRequest) -> PageResult {
    let (now, other, words) = match page.takes_keys() {
        true => ("They are on.", "off", "Turn them off"),
        false => ("They are off.", "on", "Turn them on"),
    };
    let body = html! {
        p .narrow { "Single keys are commands, outside of fields and without Ctrl, Alt or Meta. " (now) }
        form .actions method="post" action=(page.links.path("/keys")) {
            (page.csrf())
            input type="hidden" name="keys" value=(other);
            input type="hidden" name="next" value="/keys";
            button { (words) }
        }
        table .plain {
            caption .quiet { "The keys" }
            thead { tr { th scope="col" { "Key" } th scope="col" { "Does" } } }
            tbody {
                @for (key, does) in KEYS {
                    tr { th scope="row" { kbd { (key) } } td { (does) } }
                }
            }
        }
    };
    Ok(page.show(Section::Other, "Which keys are there", &body))
}

async fn set_keys(page: PageRequest) -> PageResult {
    let value = match page.field("keys") {
        Some("off") => "off",
        _ => "on",
    };
    Ok(kept(&page, "keys", value))
}

async fn set_theme(page: PageRequest) -> PageResult {
    let value = match page.field("theme") {
        Some("dark") => "dark",
        Some("light") => "light",
        _ => "auto",
    };
    Ok(kept(&page, "theme", value))
}

/// Returns the page that the form is on, with the cookie of a choice, which is no secret.
fn kept(page: &PageRequest, name: &str, value: &str) -> HttpResponse {
    let base = page.links.path("");
    let path = if base.is_empty() { "/" } else { &base };
    let next = page.field("next").filter(|next| is_own_path(next));
    HttpResponse::SeeOther()
        .insert_header((LOCATION, page.links.path(next.unwrap_or("/"))))
        .insert_header((
            SET_COOKIE,
            format!("{name}={value}; Path={path}; Max-Age=31536000; SameSite=Lax"),
        ))
        .finish()
}
