//! The overview of a server without a repository: the first steps.

use maud::{Markup, html};

use crate::api::AccessRole;
use crate::dashboard::page::PageRequest;

/// Returns how data gets here.
pub(super) fn first_steps(page: &PageRequest) -> Markup {
    let webhook = page.public_address("/webhooks/github");
    html! {
        section #start data-live="pr repo" {
            p { "There is no repository yet: nothing was received from GitHub." }
            ol {
                li {
                    "Let GitHub send its webhooks here. In the settings of the repository or the organization, \
                     add a webhook to"
                    pre { (webhook) }
                    "with the content type " code { "application/json" } ", the secret of "
                    code { "GITHUB_WEBHOOK_SECRET" } ", and the events pull requests, reviews, review comments and issue comments."
                }
                li {
                    "Fetch what was before, with a token in " code { "GITHUB_TOKEN" } ":"
                    pre { "tallyhook backfill OWNER/REPO --days 90" }
                }
                li {
                    "Look whether everything is connected:"
                    pre { "tallyhook doctor" }
                }
            }
            @if page.may(AccessRole::Admin) {
                p { "Or " a href=(page.links.path("/repos")) { "track a repository" } " from here." }
            }
        }
    }
}
