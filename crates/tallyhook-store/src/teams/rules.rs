//! Rules: the members of an organisation at GitHub, or of one of its teams, are members of a team.
//! GitHub is not asked here: a caller says which rules hold for a person.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::FromRow;

use super::members::{MemberChange, MemberSource};
use super::team::TeamId;
use crate::columns::{Millis, Name, storable_text};
use crate::database::{Lock, Transaction, statement};
use crate::{AccessRole, Moment, Result, Store, UserId};

/// The id of a rule. A rule that only changes its role keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub i64);

/// A rule of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamRule {
    pub id: RuleId,
    pub team: TeamId,
    /// GitHub's number of the organisation, which stays when its login changes.
    pub github_org_id: Option<i64>,
    pub github_org: String,
    /// The slug of a team of the organisation; `None` is all of its members.
    pub github_team: Option<String>,
    pub role: AccessRole,
}

/// A rule that is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTeamRule<'a> {
    pub github_org_id: Option<i64>,
    pub github_org: &'a str,
    pub github_team: Option<&'a str>,
    pub role: AccessRole,
}

impl NewTeamRule<'_> {
    fn is_of(&self, rule: &TeamRule) -> bool {
        let team = |team: Option<&str>| team.map(str::to_ascii_lowercase);
        self.github_org.eq_ignore_ascii_case(&rule.github_org)
            && team(self.github_team) == team(rule.github_team.as_deref())
    }
}

/// The rules that hold for a person, and those about which GitHub did not answer.
#[derive(Clone, Copy, Debug)]
pub struct RuleAnswers<'a> {
    pub holding: &'a [RuleId],
    pub unanswered: &'a [RuleId],
}

/// The teams in which the rules changed a person's membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleMemberships {
    pub joined: Vec<TeamId>,
    pub changed: Vec<TeamId>,
    pub left: Vec<TeamId>,
    /// Teams whose last admin the person is: it stays one, though no rule holds any more.
    pub kept: Vec<TeamId>,
}

#[derive(FromRow)]
struct TeamRuleRow {
    id: i64,
    team_id: i64,
    github_org_id: Option<i64>,
    github_org: String,
    github_team: Option<String>,
    role: Name<AccessRole>,
}

impl From<TeamRuleRow> for TeamRule {
    fn from(row: TeamRuleRow) -> Self {
        Self {
            id: RuleId(row.id),
            team: TeamId(row.team_id),
            github_org_id: row.github_org_id,
            github_org: row.github_org,
            github_team: row.github_team,
            role: row.role.0,
        }
    }
}

const RULES: &str = "SELECT id, team_id, github_org_id, github_org, github_team, role \
    FROM team_rules WHERE team_id = coalesce($1, team_id) ORDER BY team_id, id";

impl Store {
    /// Returns the rules of a team, or of all teams.
    pub async fn team_rules(&self, team: Option<TeamId>) -> Result<Vec<TeamRule>> {
        let query = statement(RULES).bind(team.map(|TeamId(id)| id));
        let rows: Vec<TeamRuleRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(TeamRule::from).collect())
    }

    /// Replaces the rules of a team; no two may name the same organisation and team. People who are
    /// members by a rule are due to be checked, and without a rule they leave at once, apart from
    /// the last admin.
    pub async fn replace_team_rules(&self, team: TeamId, rules: &[NewTeamRule<'_>]) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Members).await?;
        let stored = transaction.rules_of(Some(team)).await?;
        for rule in &stored {
            let RuleId(id) = rule.id;
            let change = match rules.iter().find(|new| new.is_of(rule)) {
                Some(new) => statement(
                    "UPDATE team_rules SET role = $3, github_org_id = coalesce($4, github_org_id) \
                     WHERE team_id = $1 AND id = $2",
                )
                .bind(team.0)
                .bind(id)
                .bind(new.role.as_str())
                .bind(new.github_org_id),
                None => statement("DELETE FROM team_rules WHERE team_id = $1 AND id = $2")
                    .bind(team.0)
                    .bind(id),
            };
            transaction.execute(change).await?;
        }
        let is_new = |new: &&NewTeamRule<'_>| !stored.iter().any(|rule| new.is_of(rule));
        for new in rules.iter().filter(is_new) {
            let insert = statement(
                "INSERT INTO team_rules (team_id, github_org_id, github_org, github_team, role) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(team.0)
            .bind(new.github_org_id)
            .bind(storable_text(new.github_org))
            .bind(new.github_team.map(storable_text))
            .bind(new.role.as_str());
            transaction.execute(insert).await?;
        }
        let due = statement(
            "UPDATE team_members SET github_checked_at = NULL \
             WHERE team_id = $1 AND source = 'rule'",
        )
        .bind(team.0);
        transaction.execute(due).await?;
        if rules.is_empty() {
            transaction.remove_members_by_rule(team).await?;
        }
        transaction.commit().await
    }

    /// Replaces the memberships that a person has by rules with those of `holding`, the rules that
    /// hold for it now: in each team the greatest role of them. Memberships by invitation or by
    /// hand stay. Rules that are gone meanwhile give nothing.
    pub async fn replace_rule_memberships(
        &self,
        user: UserId,
        holding: &[RuleId],
        now: Moment,
    ) -> Result<RuleMemberships> {
        let answers = RuleAnswers {
            holding,
            unanswered: &[],
        };
        self.apply_rule_answers(user, answers, now).await
    }

    /// Does the same where GitHub did not answer about some rules: in their teams the person keeps
    /// at least the role that it has, as of the time when it was last confirmed.
    pub async fn apply_rule_answers(
        &self,
        user: UserId,
        RuleAnswers {
            holding,
            unanswered,
        }: RuleAnswers<'_>,
        now: Moment,
    ) -> Result<RuleMemberships> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Members).await?;
        let (mut granted, mut undecided) = (BTreeMap::new(), BTreeSet::new());
        for rule in transaction.rules_of(None).await? {
            if unanswered.contains(&rule.id) {
                undecided.insert(rule.team);
            }
            if holding.contains(&rule.id) {
                let role = granted.entry(rule.team).or_insert(rule.role);
                *role = rule.role.max(*role);
            }
        }
        let query = statement("SELECT team_id, role, source FROM team_members WHERE user_id = $1")
            .bind(user.0);
        let known: Vec<(i64, Name<AccessRole>, Name<MemberSource>)> =
            transaction.rows(query).await?;
        let mut outcome = RuleMemberships::default();
        for (team, Name(role), Name(source)) in known {
            let team = TeamId(team);
            let wanted = granted.remove(&team);
            let keeps = undecided.contains(&team) && wanted.is_none_or(|wanted| wanted < role);
            if source != MemberSource::Rule || keeps {
                continue;
            }
            if wanted != Some(role) {
                match transaction.may_leave(team, user, wanted).await? {
                    MemberChange::Done if wanted.is_some() => outcome.changed.push(team),
                    MemberChange::Done => {
                        transaction.delete_member(team, user).await?;
                        outcome.left.push(team);
                        continue;
                    }
                    MemberChange::LastAdmin => {
                        outcome.kept.push(team);
                        continue;
                    }
                    MemberChange::NotMember => continue,
                }
            }
            let update = statement(
                "UPDATE team_members SET role = $3, github_checked_at = $4 \
                 WHERE team_id = $1 AND user_id = $2",
            )
            .bind(team.0)
            .bind(user.0)
            .bind(wanted.unwrap_or(role).as_str())
            .bind(Millis(now));
            transaction.execute(update).await?;
        }
        for (team, role) in granted {
            transaction
                .insert_member((team, user), role, MemberSource::Rule, now)
                .await?;
            outcome.joined.push(team);
        }
        transaction.commit().await?;
        Ok(outcome)
    }
}

impl Transaction<'_> {
    async fn rules_of(&mut self, team: Option<TeamId>) -> Result<Vec<TeamRule>> {
        let query = statement(RULES).bind(team.map(|TeamId(id)| id));
        let rows: Vec<TeamRuleRow> = self.rows(query).await?;
        Ok(rows.into_iter().map(TeamRule::from).collect())
    }

    /// Removes the members that a rule made, one after the other: the last admin stays.
    async fn remove_members_by_rule(&mut self, team: TeamId) -> Result<()> {
        let query = statement(
            "SELECT user_id FROM team_members WHERE team_id = $1 AND source = 'rule' \
             ORDER BY user_id",
        )
        .bind(team.0);
        for (user,) in self.rows::<(i64,)>(query).await? {
            if self.may_leave(team, UserId(user), None).await? == MemberChange::Done {
                self.delete_member(team, UserId(user)).await?;
            }
        }
        Ok(())
    }
}
