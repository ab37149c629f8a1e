//! The rules of teams that hold for a person, as GitHub answers the person's own token.

use std::collections::BTreeMap;
use std::time::Duration;

use tallyhook_github_client::hooks::GithubName;
use tallyhook_github_client::{Client, ForbiddenReason, GithubError, GithubMembership};
use tallyhook_store::{RuleId, TeamRule};
use tokio::time::{Instant, timeout_at};

/// The time for all questions of one sign-in. A person waits for it.
const PATIENCE: Duration = Duration::from_secs(15);

/// The answers about the rules of all teams.
#[derive(Debug, Default)]
pub(super) struct RuleQuestions {
    pub(super) holding: Vec<RuleId>,
    /// GitHub did not say, or not in time.
    pub(super) unanswered: Vec<RuleId>,
}

impl RuleQuestions {
    /// Asks GitHub about every organization and team of the rules, with the token of the person
    /// `login`.
    pub(super) async fn ask(person: &Client, login: &GithubName, rules: &[TeamRule]) -> Self {
        let until = Instant::now() + PATIENCE;
        let mut known: BTreeMap<(String, Option<String>), Option<MembershipAnswer>> =
            BTreeMap::new();
        let mut answers = Self::default();
        for rule in rules {
            let team = rule.github_team.as_deref().map(str::to_ascii_lowercase);
            let key = (rule.github_org.to_ascii_lowercase(), team);
            let answer = match known.get(&key) {
                Some(answer) => *answer,
                None => {
                    let asked = timeout_at(until, membership(person, login, rule)).await;
                    let answer = asked.ok().flatten();
                    known.insert(key, answer);
                    answer
                }
            };
            match answer {
                None => answers.unanswered.push(rule.id),
                Some(answer) if answer.fulfils(rule) => answers.holding.push(rule.id),
                Some(_) => {}
            }
        }
        answers
    }
}

/// An answer about one membership.
#[derive(Clone, Copy, Debug)]
struct MembershipAnswer {
    is_active: bool,
    /// GitHub's number of the organization, where it says so.
    organization: Option<i64>,
}

impl MembershipAnswer {
    /// Returns true if the rule holds. Another organization may have taken its login over.
    fn fulfils(self, rule: &TeamRule) -> bool {
        let is_same = match (self.organization, rule.github_org_id) {
            (Some(found), Some(wanted)) => found == wanted,
            _ => true,
        };
        self.is_active && is_same
    }
}

/// Returns `None` if GitHub does not say.
async fn membership(
    person: &Client,
    login: &GithubName,
    rule: &TeamRule,
) -> Option<MembershipAnswer> {
    const NONE: MembershipAnswer = MembershipAnswer {
        is_active: false,
        organization: None,
    };
    let Ok(organization) = rule.github_org.parse::<GithubName>() else {
        return Some(NONE);
    };
    let team = rule.github_team.as_deref().map(str::parse::<GithubName>);
    let found = match team {
        None => person.organization_membership(&organization, login).await,
        Some(Ok(team)) => person.team_membership(&organization, &team, login).await,
        Some(Err(_)) => return Some(NONE),
    };
    match found {
        Ok(found) => Some(
            found.map_or(NONE, |found: GithubMembership| MembershipAnswer {
                is_active: found.is_active(),
                organization: found.organization.map(|organization| organization.id),
            }),
        ),
        // A person who is no member may not ask, even about themselves.
        Err(GithubError::Forbidden {
            message,
            reason: ForbiddenReason::Permission(_),
            ..
        }) if message.contains("must be a member") => Some(NONE),
        Err(error) => {
            tracing::warn!(
                %error,
                organization = %organization,
                "GitHub does not say whether a person who signs in is in {organization}: {error}; \
                 memberships by rules about it stay as they are"
            );
            None
        }
    }
}
