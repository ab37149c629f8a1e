//! The first page: where pull requests wait.

use maud::html;

use super::layout::Section;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::words;
use crate::api::AccessRole;

pub(super) fn routes() -> Vec<PageRoute> {
    vec![PageRoute::page("/", AccessRole::Viewer, overview)]
}

async fn overview(page: PageRequest) -> PageResult {
    let waiting = page.reads().waiting("").await?;
    let body = html! {
        section #now data-live="pr" {
            h2 { a href=(page.links.to("/prs", [("state", "open")])) { (words::counted(waiting.open, "open pull request")) } }
        }
    };
    Ok(page.show(Section::Overview, "Where pull requests wait", &body))
}
