//! Rules by which members of organisations at GitHub are members of the team.

use actix_web::{get, put, web};
use serde::{Deserialize, Serialize};
use tallyhook_core::text::{read_github_team, read_login};
use tallyhook_store::{AccessRole, NewTeamRule, TeamRule};
use utoipa::ToSchema;

use super::ApiState;
use super::caller::Caller;
use super::error::{ApiError, ApiErrorBody};
use super::input::JsonInput;
use super::page::Page;

/// The most rules of a team: each is a request to GitHub for each person who signs in.
const MAX_RULES: usize = 20;

/// A rule: the members of an organisation at GitHub, or of one of its teams, are members here.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = TeamRule)]
pub struct RuleItem {
    pub id: i64,
    #[schema(example = "acme-corp")]
    pub github_org: String,
    /// The slug of a team of the organisation; null is all of its members.
    #[schema(example = "backend")]
    pub github_team: Option<String>,
    pub role: AccessRole,
}

impl From<TeamRule> for RuleItem {
    fn from(rule: TeamRule) -> Self {
        Self {
            id: rule.id.0,
            github_org: rule.github_org,
            github_team: rule.github_team,
            role: rule.role,
        }
    }
}

/// A rule to store.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = TeamRuleMade)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleBody {
    /// The login of the organisation.
    pub(crate) github_org: String,
    /// The slug of a team of the organisation; null is all of its members.
    pub(crate) github_team: Option<String>,
    /// At most the role of the caller.
    pub(crate) role: AccessRole,
}

/// The rules of the team.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TeamRules)]
#[serde(deny_unknown_fields)]
pub(super) struct RulesBody {
    /// At most 20, no two of the same organisation and team.
    rules: Vec<RuleBody>,
}

impl RuleBody {
    fn check(&self, caller: &Caller) -> Result<NewTeamRule<'_>, ApiError> {
        let wrong = |field: &str, why: &str| ApiError::BadRequest(format!("`{field}` {why}"));
        caller.may_give(self.role)?;
        let github_org = read_login(&self.github_org).map_err(|why| wrong("github_org", why))?;
        let team = self.github_team.as_deref().map(read_github_team);
        let github_team = team.transpose();
        let github_team = github_team.map_err(|why| wrong("github_team", why))?;
        Ok(NewTeamRule {
            github_org_id: None,
            github_org,
            github_team,
            role: self.role,
        })
    }
}

impl ApiState {
    /// Answers as `GET /api/rules`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn rules_of(&self, caller: &Caller) -> Result<Page<RuleItem>, ApiError> {
        let rules = self.store.team_rules(Some(caller.team)).await?.into_iter();
        Ok(Page::new(rules.map(RuleItem::from).collect(), None))
    }

    /// Replaces the rules as `PUT /api/rules`.
    ///
    /// # Errors
    /// Those of the API.
    pub(crate) async fn replace_rules(
        &self,
        caller: &Caller,
        rules: &[RuleBody],
    ) -> Result<(), ApiError> {
        if rules.len() > MAX_RULES {
            let message = format!("`rules` has more than {MAX_RULES}: leave some out");
            return Err(ApiError::BadRequest(message));
        }
        let new = rules.iter().map(|rule| rule.check(caller));
        let new = new.collect::<Result<Vec<_>, _>>()?;
        let subject = |rule: &NewTeamRule<'_>| {
            let team = rule.github_team.map(str::to_ascii_lowercase);
            (rule.github_org.to_ascii_lowercase(), team)
        };
        let mut subjects: Vec<_> = new.iter().map(subject).collect();
        subjects.sort();
        if subjects.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ApiError::BadRequest(
                "`rules` has two of the same organisation and team: leave one out".to_owned(),
            ));
        }
        Ok(self.store.replace_team_rules(caller.team, &new).await?)
    }
}

/// The rules of the team.
#[utoipa::path(
    tag = "members", operation_id = "list_team_rules", security(("token" = [])),
    responses((status = 200, body = Page<RuleItem>))
)]
#[get("/rules")]
pub(super) async fn list(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
) -> Result<web::Json<Page<RuleItem>>, ApiError> {
    Ok(web::Json(api.rules_of(&caller).await?))
}

/// Replaces the rules of the team. They are checked when a person signs in with GitHub. Without a rule
/// those whom one made members leave at once, apart from the last admin.
#[utoipa::path(
    tag = "members", operation_id = "replace_team_rules", security(("token" = [])),
    request_body = RulesBody,
    responses(
        (status = 200, body = Page<RuleItem>),
        (status = 403, description = "A rule gives a role above that of the caller",
            body = ApiErrorBody),
    )
)]
#[put("/rules")]
pub(super) async fn replace(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
    JsonInput(body): JsonInput<RulesBody>,
) -> Result<web::Json<Page<RuleItem>>, ApiError> {
    api.replace_rules(&caller, &body.rules).await?;
    Ok(web::Json(api.rules_of(&caller).await?))
}
