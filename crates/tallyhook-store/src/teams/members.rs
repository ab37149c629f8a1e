//! Members of teams. A team that has an admin never loses the last one.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use utoipa::ToSchema;

use super::team::TeamId;
use crate::columns::{Millis, Name};
use crate::database::{Lock, Transaction, statement};
use crate::{AccessRole, Moment, PersonName, Result, Store, UserId};

/// The reason why a person is a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberSource {
    /// The person accepted an invitation.
    Invitation,
    /// A rule about an organisation at GitHub.
    Rule,
    /// An operator or an admin added the person, or set the role.
    Operator,
}

impl MemberSource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::Rule => "rule",
            Self::Operator => "operator",
        }
    }
}

/// A member of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    pub person: PersonName,
    pub role: AccessRole,
    pub source: MemberSource,
    /// The last time that GitHub confirmed the rule.
    pub github_checked_at: Option<Moment>,
    pub created_at: Moment,
}

/// The membership of a person in a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub team: TeamId,
    pub team_name: String,
    pub role: AccessRole,
}

/// The outcome of adding a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberAddition {
    Added,
    /// The person is a member, and stays as it was.
    IsMember,
    /// There is no such person.
    Unknown,
}

/// The outcome of changing or removing a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    Done,
    NotMember,
    /// The team would have no admin; nothing was changed.
    LastAdmin,
}

#[derive(FromRow)]
struct MemberRow {
    user_id: i64,
    login: Option<String>,
    name: Option<String>,
    role: Name<AccessRole>,
    source: Name<MemberSource>,
    github_checked_at: Option<Millis>,
    created_at: Millis,
}

impl From<MemberRow> for MemberRecord {
    fn from(row: MemberRow) -> Self {
        Self {
            person: PersonName {
                id: UserId(row.user_id),
                login: row.login,
                name: row.name,
            },
            role: row.role.0,
            source: row.source.0,
            github_checked_at: row.github_checked_at.map(|Millis(at)| at),
            created_at: row.created_at.0,
        }
    }
}

#[derive(FromRow)]
struct MembershipRow {
    team_id: i64,
    name: String,
    role: Name<AccessRole>,
}

impl Store {
    /// Returns the members of a team, the oldest first.
    pub async fn members(&self, TeamId(team): TeamId) -> Result<Vec<MemberRecord>> {
        let query = statement(
            "SELECT member.user_id, person.login, person.name, member.role, member.source, \
             member.github_checked_at, member.created_at \
             FROM team_members AS member JOIN users AS person ON person.id = member.user_id \
             WHERE member.team_id = $1 ORDER BY member.created_at, member.user_id",
        )
        .bind(team);
        let rows: Vec<MemberRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(MemberRecord::from).collect())
    }

    /// Returns the teams of a person by their slugs; none of one who is disabled.
    pub async fn memberships(&self, UserId(user): UserId) -> Result<Vec<Membership>> {
        let query = statement(
            "SELECT member.team_id, team.name, member.role FROM team_members AS member \
             JOIN teams AS team ON team.id = member.team_id \
             JOIN users AS person ON person.id = member.user_id AND person.disabled_at IS NULL \
             WHERE member.user_id = $1 ORDER BY team.name, team.id",
        )
        .bind(user);
        let rows: Vec<MembershipRow> = self.database.rows(query).await?;
        let membership = |row: MembershipRow| Membership {
            team: TeamId(row.team_id),
            team_name: row.name,
            role: row.role.0,
        };
        Ok(rows.into_iter().map(membership).collect())
    }

    /// Returns true if a person without an account at GitHub was invited to a team by a link of
    /// its own.
    pub async fn is_invited(&self, TeamId(team): TeamId, UserId(user): UserId) -> Result<bool> {
        let query = statement(
            "SELECT user_id FROM invitations WHERE team_id = $1 AND user_id = $2 LIMIT 1",
        )
        .bind(team)
        .bind(user);
        let row: Option<(i64,)> = self.database.row(query).await?;
        Ok(row.is_some())
    }

    /// Makes a person a member.
    pub async fn add_member(
        &self,
        team: TeamId,
        user: UserId,
        role: AccessRole,
        now: Moment,
    ) -> Result<MemberAddition> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Members).await?;
        let known = statement("SELECT id FROM users WHERE id = $1").bind(user.0);
        if transaction.row::<(i64,)>(known).await?.is_none() {
            transaction.rollback().await?;
            return Ok(MemberAddition::Unknown);
        }
        let is_added = transaction
            .insert_member((team, user), role, MemberSource::Operator, now)
            .await?;
        transaction.commit().await?;
        Ok(match is_added {
            true => MemberAddition::Added,
            false => MemberAddition::IsMember,
        })
    }

    /// Sets the role of a member by hand: rules leave it alone from then on.
    pub async fn set_member_role(
        &self,
        team: TeamId,
        user: UserId,
        role: AccessRole,
    ) -> Result<MemberChange> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Members).await?;
        let change = transaction.may_leave(team, user, Some(role)).await?;
        if change == MemberChange::Done {
            let update = statement(
                "UPDATE team_members SET role = $3, source = 'operator' \
                 WHERE team_id = $1 AND user_id = $2",
            )
            .bind(team.0)
            .bind(user.0)
            .bind(role.as_str());
            transaction.execute(update).await?;
        }
        transaction.commit().await?;
        Ok(change)
    }

    /// Removes a member. The tokens that it made for the team have no force from then on.
    pub async fn remove_member(&self, team: TeamId, user: UserId) -> Result<MemberChange> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        transaction.lock(Lock::Members).await?;
        let change = transaction.may_leave(team, user, None).await?;
        if change == MemberChange::Done {
            transaction.delete_member(team, user).await?;
        }
        transaction.commit().await?;
        Ok(change)
    }
}

impl Transaction<'_> {
    /// Stores a member. Returns false if the person is one already.
    pub(super) async fn insert_member(
        &mut self,
        (TeamId(team), UserId(user)): (TeamId, UserId),
        role: AccessRole,
        source: MemberSource,
        now: Moment,
    ) -> Result<bool> {
        let checked = (source == MemberSource::Rule).then_some(Millis(now));
        let insert = statement(
            "INSERT INTO team_members (team_id, user_id, role, source, github_checked_at, \
             created_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (team_id, user_id) DO NOTHING",
        )
        .bind(team)
        .bind(user)
        .bind(role.as_str())
        .bind(source.as_str())
        .bind(checked)
        .bind(Millis(now));
        Ok(self.execute(insert).await? == 1)
    }

    pub(super) async fn delete_member(
        &mut self,
        TeamId(team): TeamId,
        UserId(user): UserId,
    ) -> Result<()> {
        let delete = statement("DELETE FROM team_members WHERE team_id = $1 AND user_id = $2")
            .bind(team)
            .bind(user);
        self.execute(delete).await.map(|_| ())
    }

    /// Reports whether a member may get a role, or leave without one. The caller holds
    /// [`Lock::Members`], so that two admins do not leave at once.
    pub(super) async fn may_leave(
        &mut self,
        TeamId(team): TeamId,
        UserId(user): UserId,
        role: Option<AccessRole>,
    ) -> Result<MemberChange> {
        let query = statement(
            "SELECT member.role, (SELECT count(*) FROM team_members AS other \
             JOIN users AS person ON person.id = other.user_id AND person.disabled_at IS NULL \
             WHERE other.team_id = $1 AND other.user_id <> $2 AND other.role = 'admin') AS others \
             FROM team_members AS member WHERE member.team_id = $1 AND member.user_id = $2",
        )
        .bind(team)
        .bind(user);
        let row: Option<(Name<AccessRole>, i64)> = self.row(query).await?;
        Ok(match row {
            None => MemberChange::NotMember,
            Some((Name(AccessRole::Admin), 0)) if role != Some(AccessRole::Admin) => {
                MemberChange::LastAdmin
            }
            Some(_) => MemberChange::Done,
        })
    }
}
