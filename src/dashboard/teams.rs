//! The teams of the caller: the choice of one, and the making of one.

use maud::html;

use super::layout::Section;
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use crate::api::{AccessRole, is_own_path};

pub(super) fn routes() -> Vec<PageRoute> {
    vec![
        PageRoute::page("/teams", AccessRole::Viewer, teams).of_any_team(),
        PageRoute::form("/teams/choose", AccessRole::Viewer, choose).of_any_team(),
        PageRoute::form("/teams", AccessRole::Operator, create).of_any_team(),
    ]
}

async fn teams(page: PageRequest) -> PageResult {
    let next = page.parameter("next").filter(|next| is_own_path(next));
    let next = next.unwrap_or("/");
    let body = html! {
        @if page.teams.is_empty() {
            p { "A token has one team: " bdi { (page.caller.team_name) } "." }
        } @else {
            table .plain {
                caption .quiet { "Teams that you are in" }
                thead { tr { th scope="col" { "Team" } th scope="col" { "Do" } } }
                tbody {
                    @for team in &page.teams {
                        tr id=(format!("team-{team}")) {
                            th scope="row" {
                                (team)
                                @if *team == page.caller.team_name { " " span .chip { "shown now" } }
                            }
                            td {
                                form method="post" action=(page.links.path("/teams/choose")) {
                                    (page.csrf())
                                    input type="hidden" name="team" value=(team);
                                    input type="hidden" name="next" value=(next);
                                    button aria-label=(format!("Show {team}")) { "Show" }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if page.may(AccessRole::Operator) {
            h2 { "Create a team" }
            p .quiet {
                "While there is one team, its admins run the installation. With a second one only \
                 the tokens of operators do."
            }
            form .filters method="post" action=(page.links.path("/teams")) {
                (page.csrf())
                label { "Name" input name="name" required maxlength="40"; }
                button { "Create" }
            }
        }
    };
    Ok(page.show(Section::Settings, "For which team", &body))
}

async fn choose(page: PageRequest) -> PageResult {
    let team = page.field("team").unwrap_or_default();
    page.api.choose_team(&page.caller, team).await?;
    let next = page.field("next").filter(|next| is_own_path(next));
    Ok(page.redirect(&page.links.path(next.unwrap_or("/"))))
}

async fn create(page: PageRequest) -> PageResult {
    page.api
        .create_team(page.field("name").unwrap_or_default())
        .await?;
    Ok(page.redirect(&page.links.path("/teams")))
}
