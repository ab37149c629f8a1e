//! The members of the team, invitations to it, and the rules about GitHub.

use maud::{Markup, html};

use super::layout::{Section, block};
use super::page::{PageRequest, PageResult};
use super::routes::PageRoute;
use super::words;
use crate::api::{
    AccessRole, ApiError, InvitationItem, InviteBody, MemberItem, MemberSource, Page, RuleBody,
    RuleItem,
};

const ROLES: [AccessRole; 3] = [AccessRole::Viewer, AccessRole::Member, AccessRole::Admin];

pub(super) fn routes() -> Vec<PageRoute> {
    let admin = AccessRole::Admin;
    vec![
        PageRoute::page("/members", admin, members),
        PageRoute::form("/members/{id}/role", admin, set_role),
        PageRoute::form("/members/{id}/remove", admin, remove),
        PageRoute::form("/members/invite", admin, invite),
        PageRoute::form("/members/invitations/{id}/end", admin, end_invitation),
        PageRoute::form("/members/rules", admin, add_rule),
        PageRoute::form("/members/rules/{id}/remove", admin, remove_rule),
    ]
}

async fn members(page: PageRequest) -> PageResult {
    let (api, caller) = (&page.api, &page.caller);
    let body = html! {
        p { "Of the team " strong { (caller.team_name) } "." }
        section #members { (block(api.members(caller).await, |list| member_table(&page, &list))) }
        section #invitations {
            h2 { "Invitations" }
            (block(api.invitations(caller).await, |list| invitation_table(&page, &list)))
            (invitation_form(&page))
        }
        section #rules {
            h2 { "Members by GitHub" }
            (block(api.rules_of(caller).await, |list| rule_table(&page, &list)))
            (rule_form(&page))
        }
    };
    Ok(page.show(Section::Settings, "Who is in the team", &body))
}

fn role_choice(chosen: AccessRole) -> Markup {
    html! {
        @for role in ROLES { option value=(role.as_str()) selected[role == chosen] { (role.as_str()) } }
    }
}

fn member_table(page: &PageRequest, list: &Page<MemberItem>) -> Markup {
    let address = |member: &MemberItem, action: &str| {
        page.links
            .path(&format!("/members/{}/{action}", member.user.id))
    };
    html! {
        @if list.items.is_empty() {
            p { "No person is a member yet: tokens are used alone." }
        } @else {
            table {
                caption .quiet { "Members of the team, the oldest first" }
                thead {
                    tr {
                        th scope="col" { "Person" } th scope="col" .hide { "By" }
                        th scope="col" .hide { "Since" } th scope="col" { "Role" } th scope="col" { "Do" }
                    }
                }
                tbody {
                    @for member in &list.items {
                        tr id=(format!("member-{}", member.user.id)) {
                            th scope="row" { bdi { (member.user.shown()) } }
                            td .hide { (source(member.source)) }
                            td .hide { (words::stated(Some(&member.created_at))) }
                            td {
                                form method="post" action=(address(member, "role")) {
                                    (page.csrf())
                                    select name="role" aria-label=(format!("Role of {}", member.user.shown())) {
                                        (role_choice(member.role))
                                    }
                                    button { "Set" }
                                }
                            }
                            td {
                                form method="post" action=(address(member, "remove")) {
                                    (page.csrf())
                                    button .danger aria-label=(format!("Remove {}", member.user.shown())) { "Remove" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn source(source: MemberSource) -> &'static str {
    match source {
        MemberSource::Invitation => "an invitation",
        MemberSource::Rule => "a rule about GitHub",
        MemberSource::Operator => "hand",
    }
}

fn invitation_table(page: &PageRequest, list: &Page<InvitationItem>) -> Markup {
    html! {
        @if list.items.is_empty() {
            p { "There is none." }
        } @else {
            table {
                caption .quiet { "Invitations, the newest first" }
                thead {
                    tr {
                        th scope="col" { "For" } th scope="col" { "Role" } th scope="col" .hide { "By" }
                        th scope="col" .hide { "Made" } th scope="col" { "State" } th scope="col" { "Do" }
                    }
                }
                tbody { @for invitation in &list.items { (invitation_row(page, invitation)) } }
            }
        }
    }
}

fn invitation_row(page: &PageRequest, invitation: &InvitationItem) -> Markup {
    let person = invitation.user.as_ref().map(|person| person.shown());
    let person = person.or(invitation.github_login.as_deref());
    let inviter = invitation.invited_by.as_ref();
    let end = format!("/members/invitations/{}/end", invitation.id);
    html! {
        tr id=(format!("invitation-{}", invitation.id)) {
            th scope="row" { bdi { (person.unwrap_or("anyone who has signed in")) } }
            td { (invitation.role.as_str()) }
            td .hide { bdi { (inviter.map_or(words::UNKNOWN, |person| person.shown())) } }
            td .hide { (words::stated(Some(&invitation.created_at))) }
            td {
                @match (&invitation.used_at, &invitation.used_by) {
                    (Some(at), Some(by)) => { "used by " bdi { (by.shown()) } " " (words::stated(Some(at))) },
                    (Some(at), None) => { "used " (words::stated(Some(at))) },
                    (None, _) => { "until " (words::stated(Some(&invitation.expires_at))) },
                }
            }
            td {
                @if invitation.used_at.is_none() {
                    form method="post" action=(page.links.path(&end)) { (page.csrf()) button { "End" } }
                }
            }
        }
    }
}

fn invitation_form(page: &PageRequest) -> Markup {
    html! {
        h3 { "Invite a person" }
        p .quiet {
            "Give a login for a person who signs in with GitHub, or a name for one without an account \
             there. With neither, the first who has signed in may use the link."
        }
        form .filters method="post" action=(page.links.path("/members/invite")) {
            (page.csrf())
            label { "Login on GitHub" input name="github_login"; }
            label { "Name" input name="name" maxlength="100"; }
            label { "Role" select name="role" { (role_choice(AccessRole::Member)) } }
            button { "Make a link" }
        }
    }
}

fn rule_table(page: &PageRequest, list: &Page<RuleItem>) -> Markup {
    html! {
        @if list.items.is_empty() {
            p { "There is no rule: people join by invitation." }
        } @else {
            table {
                caption .quiet { "Rules, checked when a person signs in with GitHub" }
                thead {
                    tr {
                        th scope="col" { "Members of" } th scope="col" { "Are" } th scope="col" { "Do" }
                    }
                }
                tbody {
                    @for rule in &list.items {
                        @let remove = format!("/members/rules/{}/remove", rule.id);
                        tr id=(format!("rule-{}", rule.id)) {
                            th scope="row" {
                                bdi { (rule.github_org) }
                                @if let Some(team) = &rule.github_team { " / " bdi { (team) } }
                            }
                            td { (rule.role.as_str()) }
                            td {
                                form method="post" action=(page.links.path(&remove)) {
                                    (page.csrf()) button .danger { "Remove" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn rule_form(page: &PageRequest) -> Markup {
    html! {
        h3 { "Add a rule" }
        form .filters method="post" action=(page.links.path("/members/rules")) {
            (page.csrf())
            label { "Organization at GitHub" input name="github_org" required maxlength="39"; }
            label { "Team there (empty: all members)" input name="github_team"; }
            label { "Role" select name="role" { (role_choice(AccessRole::Viewer)) } }
            button { "Add" }
        }
    }
}

/// Returns the role that a form chose.
fn chosen_role(page: &PageRequest) -> Result<AccessRole, ApiError> {
    let text = page.field("role").unwrap_or_default();
    let role = ROLES.into_iter().find(|role| role.as_str() == text);
    role.ok_or_else(|| {
        ApiError::BadRequest("`role` is missing: expected viewer, member or admin".to_owned())
    })
}

fn number(page: &PageRequest, what: &'static str) -> Result<i64, ApiError> {
    page.part("id")
        .parse()
        .map_err(|_| ApiError::NotFound(what))
}

fn back(page: &PageRequest) -> PageResult {
    Ok(page.redirect(&page.links.path("/members")))
}

async fn set_role(page: PageRequest) -> PageResult {
    let (user, role) = (number(&page, "member")?, chosen_role(&page)?);
    page.api.set_member_role(&page.caller, user, role).await?;
    back(&page)
}

async fn remove(page: PageRequest) -> PageResult {
    let user = number(&page, "member")?;
    page.api.remove_member(&page.caller, user).await?;
    back(&page)
}

async fn invite(page: PageRequest) -> PageResult {
    let text = |name| page.field(name).map(str::to_owned);
    let body = InviteBody {
        role: chosen_role(&page)?,
        github_login: text("github_login"),
        user: None,
        name: text("name"),
        login: None,
    };
    let link = page.api.invite(&page.caller, &body).await?;
    let address = page.public_address(&link.path);
    let body = html! {
        p { "Send this link to the person: it is shown this once, and can be used once, within a week." }
        p .actions {
            code #new-link { (address) }
            button type="button" data-copy="new-link" { "Copy" }
        }
        p { a href=(page.links.path("/members")) { "Members" } }
    };
    Ok(page.show(Section::Settings, "A new invitation", &body))
}

async fn end_invitation(page: PageRequest) -> PageResult {
    let id = number(&page, "open invitation")?;
    page.api.end_invitation(&page.caller, id).await?;
    back(&page)
}

/// Returns the rules of the team as they are to be stored again, without one of them.
async fn rules_without(page: &PageRequest, id: Option<i64>) -> Result<Vec<RuleBody>, ApiError> {
    let rules = page.api.rules_of(&page.caller).await?.items;
    let count = rules.len();
    let kept: Vec<_> = rules
        .into_iter()
        .filter(|rule| Some(rule.id) != id)
        .map(|rule| RuleBody {
            github_org: rule.github_org,
            github_team: rule.github_team,
            role: rule.role,
        })
        .collect();
    match id {
        Some(_) if kept.len() == count => Err(ApiError::NotFound("rule")),
        _ => Ok(kept),
    }
}

async fn add_rule(page: PageRequest) -> PageResult {
    let rule = RuleBody {
        github_org: page.field("github_org").unwrap_or_default().to_owned(),
        github_team: page.field("github_team").map(str::to_owned),
        role: chosen_role(&page)?,
    };
    let mut rules = rules_without(&page, None).await?;
    rules.push(rule);
    page.api.replace_rules(&page.caller, &rules).await?;
    back(&page)
}

async fn remove_rule(page: PageRequest) -> PageResult {
    let rules = rules_without(&page, Some(number(&page, "rule")?)).await?;
    page.api.replace_rules(&page.caller, &rules).await?;
    back(&page)
}
