//! What a person's token sees: the person, their organizations and memberships, and the
//! installations of the App; and the rules by which organizations keep tokens out.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, LINK};
use serde_json::{Value, json};

use super::app::{FakeApp, Installation};
use super::directory::{Directory, FakeMembership, FakeOrganization, PersonToken};
use super::oauth::FakeOauth;
use super::rest::{Parameters, RestAnswer};
use super::world::World;
use crate::payloads::objects;

/// The header of organizations with single sign-on.
const SSO: HeaderName = HeaderName::from_static("x-github-sso");

/// What the answers about people and organizations are made from.
pub(super) struct DirectoryView<'a> {
    pub(super) directory: &'a Directory,
    pub(super) oauth: &'a FakeOauth,
    pub(super) app: Option<&'a FakeApp>,
    pub(super) world: &'a World,
    /// The token of the request, if it is a person's.
    pub(super) token: Option<&'a PersonToken>,
}

impl DirectoryView<'_> {
    /// Answers a request; `None` if it is about something else.
    pub(super) fn answer(&self, request: &HttpRequest) -> Option<RestAnswer> {
        let parts: Vec<_> = request.path().trim_matches('/').split('/').collect();
        if let Some(refused) = self.refusal(&parts) {
            return Some(refused);
        }
        match (request.method().as_str(), &parts[..]) {
            ("GET", ["user"]) => Some(self.user()?.into()),
            ("GET", ["user", "orgs"]) => self.organizations(request),
            ("GET", ["user", "memberships", "orgs"]) => self.memberships(request),
            ("GET", ["user", "installations"]) => self.installations(request),
            ("GET", ["user", "installations", id, "repositories"]) => {
                self.installation_repositories(id, request)
            }
            ("GET", ["orgs", organization, "memberships", login]) => {
                let known = self.directory.organization(organization)?;
                let membership = member(&known.members, login);
                Some(self.membership(known, membership, login))
            }
            ("GET", ["orgs", organization, "teams", slug, "memberships", login]) => {
                let known = self.directory.organization(organization)?;
                let team = known.teams.iter().find(|team| team.slug == *slug);
                let membership = team.and_then(|team| member(&team.members, login));
                Some(self.team_membership(known, slug, membership))
            }
            _ => None,
        }
    }

    /// Answers a request that the rules of an organization refuse.
    fn refusal(&self, parts: &[&str]) -> Option<RestAnswer> {
        let [_, owner, ..] = parts else {
            return None;
        };
        let is_about_owner = ["repos", "orgs"].contains(&parts[0]);
        let organization = self
            .directory
            .organization(owner)
            .filter(|_| is_about_owner)?;
        let name = &organization.account.login;
        let although = format!(
            "Although you appear to have the correct authorization credentials, the `{name}` \
             organization has"
        );
        if organization.has_ip_allow_list {
            let message = format!(
                "{although} an IP allow list enabled, and your IP address is not permitted to \
                 access this resource."
            );
            return Some(RestAnswer::problem(StatusCode::FORBIDDEN, &message));
        }
        let token = self.token?;
        if organization.restricts_oauth_apps && token.token.starts_with("gho_") {
            let message = format!(
                "{although} enabled OAuth App access restrictions, meaning that data access to \
                 third-parties is limited. For more information on these restrictions, including \
                 how to enable this app, visit https://docs.github.com/articles/restricting-access-to-your-organization-s-data/"
            );
            return Some(RestAnswer::problem(StatusCode::FORBIDDEN, &message));
        }
        if self.lacks_sso(organization, token) {
            let message = "Resource protected by organization SAML enforcement. You must grant \
                           your Personal Access token access to this organization.";
            let url = &self.world.url;
            let mut answer = RestAnswer::problem(StatusCode::FORBIDDEN, message);
            let link = format!("required; url={url}/orgs/{name}/sso?authorization_request=A1B2C3");
            answer.headers.push((SSO, link));
            return Some(answer);
        }
        None
    }

    fn lacks_sso(&self, organization: &FakeOrganization, token: &PersonToken) -> bool {
        organization.wants_sso && !token.sso.contains(&organization.account.login)
    }

    fn user(&self) -> Option<Value> {
        let person = self.directory.person_by_id(self.token?.user)?;
        let mut user = objects::account(Some(&person.account));
        let more = json!({
            "name": null,
            "company": null,
            "blog": null,
            "location": null,
            "email": null,
            "hireable": null,
            "bio": null,
            "public_repos": 2,
            "public_gists": 0,
            "followers": 1,
            "following": 1,
            "created_at": "2020-01-05T09:00:00Z",
            "updated_at": "2026-01-05T09:00:00Z",
        });
        objects::extend(&mut user, more);
        Some(user)
    }

    /// Lists the organizations of the person, without those that want single sign-on first. A
    /// fine-grained token sees none.
    fn organizations(&self, request: &HttpRequest) -> Option<RestAnswer> {
        let token = self.token?;
        let login = &self.directory.person_by_id(token.user)?.account.login;
        let is_active = |known: &&FakeOrganization| {
            member(&known.members, login).is_some_and(|seat| seat.state == "active")
        };
        let organizations = self.directory.organizations.iter().filter(is_active);
        let is_fine_grained = token.scopes.is_none();
        let (hidden, shown): (Vec<_>, Vec<_>) = organizations
            .filter(|_| !is_fine_grained)
            .filter(|known| !(known.restricts_oauth_apps && token.token.starts_with("gho_")))
            .partition(|known| self.lacks_sso(known, token));
        let shown = shown
            .iter()
            .map(|known| objects::organization(&known.account));
        let mut answer = self.paged(request, shown.collect(), Value::from);
        if !hidden.is_empty() {
            let ids: Vec<_> = hidden
                .iter()
                .map(|known| known.account.id.to_string())
                .collect();
            let partial = format!("partial-results; organizations={}", ids.join(","));
            answer.headers.push((SSO, partial));
        }
        Some(answer)
    }

    fn memberships(&self, request: &HttpRequest) -> Option<RestAnswer> {
        let token = self.token?;
        let login = &self.directory.person_by_id(token.user)?.account.login;
        let seats = self.directory.organizations.iter().filter_map(|known| {
            let seat = member(&known.members, login)?;
            Some(self.membership(known, Some(seat), login).value)
        });
        Some(self.paged(request, seats.collect(), Value::from))
    }

    fn membership(
        &self,
        organization: &FakeOrganization,
        seat: Option<&FakeMembership>,
        login: &str,
    ) -> RestAnswer {
        // A person who is no member may not ask.
        let asks = self
            .token
            .and_then(|token| self.directory.person_by_id(token.user));
        if asks.is_some_and(|asks| member(&organization.members, &asks.account.login).is_none()) {
            let message =
                "You must be a member of this organization to see membership information.";
            return RestAnswer::problem(StatusCode::FORBIDDEN, message);
        }
        let Some(seat) = seat else {
            return RestAnswer::missing();
        };
        let url = format!("https://api.github.com/orgs/{}", organization.account.login);
        let person = self.directory.person(login).map(|person| &person.account);
        json!({
            "url": format!("{url}/memberships/{login}"),
            "state": seat.state,
            "role": seat.role,
            "organization_url": url,
            "organization": objects::organization(&organization.account),
            "user": objects::account(person),
        })
        .into()
    }

    fn team_membership(
        &self,
        organization: &FakeOrganization,
        team: &str,
        seat: Option<&FakeMembership>,
    ) -> RestAnswer {
        let Some(FakeMembership { login, state, role }) = seat else {
            return RestAnswer::missing();
        };
        let name = &organization.account.login;
        let url = format!("https://api.github.com/orgs/{name}/teams/{team}/memberships/{login}");
        json!({"url": url, "state": state, "role": role}).into()
    }

    /// Lists the installations of the token's App on accounts that the person belongs to.
    fn installations(&self, request: &HttpRequest) -> Option<RestAnswer> {
        let (app, token) = (self.app?, self.token?);
        if !token.token.starts_with("ghu_") {
            let message = "You must authenticate with an access token authorized to a GitHub App \
                           in order to list installations";
            return Some(RestAnswer::problem(StatusCode::FORBIDDEN, message));
        }
        let seen = app.installations.iter().filter(|one| self.sees(one, token));
        let seen: Vec<_> = seen.map(|one| app.installation(one)).collect();
        let total = seen.len();
        let page = |page| json!({"total_count": total, "installations": page});
        Some(self.paged(request, seen, page))
    }

    fn installation_repositories(&self, id: &str, request: &HttpRequest) -> Option<RestAnswer> {
        let (app, token) = (self.app?, self.token?);
        let found = app
            .installations
            .iter()
            .find(|one| one.id.to_string() == id && self.sees(one, token));
        let Some(installation) = found else {
            return Some(RestAnswer::missing());
        };
        if installation.is_suspended {
            let message = "This installation has been suspended";
            return Some(RestAnswer::problem(StatusCode::FORBIDDEN, message));
        }
        let repositories = self.world.repositories.iter().filter(|repository| {
            let selected = &installation.repositories;
            repository.place.owner.login == installation.account
                && selected
                    .as_ref()
                    .is_none_or(|ids| ids.contains(&repository.place.repo_id))
        });
        let shown: Vec<_> = repositories
            .map(|repository| {
                let mut shown = objects::repository(&repository.place);
                let more = json!({
                    "archived": repository.archived,
                    "permissions": {"admin": true, "maintain": true, "push": true, "triage": true, "pull": true},
                });
                objects::extend(&mut shown, more);
                shown
            })
            .collect();
        let total = shown.len();
        let page = |page| json!({"total_count": total, "repositories": page});
        Some(self.paged(request, shown, page))
    }

    fn sees(&self, installation: &Installation, token: &PersonToken) -> bool {
        let app = token.client_id.as_deref().and_then(|id| self.oauth.app(id));
        let person = self.directory.person_by_id(token.user);
        let login = person.map_or("", |person| person.account.login.as_str());
        let organization = self.directory.organization(&installation.account);
        app.is_some_and(|app| app.app_id == Some(installation.app_id))
            && (installation.account == login
                || organization.is_some_and(|known| {
                    member(&known.members, login).is_some_and(|seat| seat.state == "active")
                }))
    }

    /// Answers with the requested page of `items` as `render` shows it, and a link to the next.
    fn paged(
        &self,
        request: &HttpRequest,
        items: Vec<Value>,
        render: impl Fn(Vec<Value>) -> Value,
    ) -> RestAnswer {
        let parameters = Parameters::of(request);
        let per_page = parameters.per_page();
        let page: usize = parameters
            .get("page")
            .map_or(1, |page| page.parse().unwrap());
        let pages = items.len().div_ceil(per_page);
        let shown = items.into_iter().skip((page - 1) * per_page).take(per_page);
        let mut answer = RestAnswer::from(render(shown.collect()));
        if page < pages {
            let link = format!(
                "<{}{}?per_page={per_page}&page={}>; rel=\"next\"",
                self.world.url,
                request.path(),
                page + 1
            );
            answer.headers.push((LINK, link));
        }
        answer
    }
}

fn member<'a>(members: &'a [FakeMembership], login: &str) -> Option<&'a FakeMembership> {
    members
        .iter()
        .find(|known| known.login.eq_ignore_ascii_case(login))
}
