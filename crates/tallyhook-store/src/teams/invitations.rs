//! Invitations to a team, and links that sign a person in once. Of a link's secret only a digest is
//! stored.

use sqlx::FromRow;

use super::members::MemberSource;
use super::team::TeamId;
use crate::columns::{Millis, Name, storable_text};
use crate::database::{Lock, Transaction, statement};
use crate::{AccessRole, Moment, PersonName, Result, Store, TokenHash, UserId};

/// The id of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvitationId(pub i64);

/// The person who may use an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitedPerson<'a> {
    /// Anyone who has signed in.
    Anyone,
    /// The holder of a login at GitHub.
    Login(&'a str),
    /// A person who is known here and has signed in.
    Known(UserId),
    /// A person who is known here, and whom the link signs in.
    SignedIn(UserId),
    /// A person without an account at GitHub, who is stored with the invitation. The link signs it
    /// in.
    New {
        name: &'a str,
        /// The login that "me" means to the person.
        login: Option<&'a str>,
    },
}

/// An invitation that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewInvitation<'a> {
    pub hash: &'a TokenHash,
    /// `None` is a link that only signs in.
    pub team: Option<(TeamId, AccessRole)>,
    pub person: InvitedPerson<'a>,
    /// The person who invites; the invitation has no force once that is no admin of the team.
    pub invited_by: Option<UserId>,
    pub created_at: Moment,
    pub expires_at: Moment,
}

/// An invitation of a team, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationRecord {
    pub id: InvitationId,
    pub role: AccessRole,
    /// The login at GitHub that it is bound to.
    pub github_login: Option<String>,
    /// The person that it is bound to.
    pub person: Option<PersonName>,
    pub signs_in: bool,
    pub invited_by: Option<PersonName>,
    pub created_at: Moment,
    pub expires_at: Moment,
    pub used_at: Option<Moment>,
    pub used_by: Option<PersonName>,
}

/// An invitation in force, as its page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitationOffer {
    /// The team's slug and the role; `None` is a link that only signs in.
    pub team: Option<(String, AccessRole)>,
    pub github_login: Option<String>,
    pub person: Option<PersonName>,
    pub signs_in: bool,
    pub expires_at: Moment,
}

/// A used invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedInvitation {
    pub user: UserId,
    pub team: Option<TeamId>,
    /// The link signs the person in.
    pub signs_in: bool,
}

/// The outcome of using an invitation. Only the first uses it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationOutcome {
    Accepted(AcceptedInvitation),
    /// It is unknown, used or expired, or the inviter is no admin of the team any more.
    NotValid,
    /// It is for people who have signed in.
    SignInFirst,
    /// It is bound to another person.
    OtherPerson,
}

#[derive(FromRow)]
struct InvitationRow {
    id: i64,
    role: Name<AccessRole>,
    github_login: Option<String>,
    user_id: Option<i64>,
    user_login: Option<String>,
    user_name: Option<String>,
    signs_in: bool,
    invited_by: Option<i64>,
    inviter_login: Option<String>,
    inviter_name: Option<String>,
    created_at: Millis,
    expires_at: Millis,
    used_at: Option<Millis>,
    used_by: Option<i64>,
    taker_login: Option<String>,
    taker_name: Option<String>,
}

impl From<InvitationRow> for InvitationRecord {
    fn from(row: InvitationRow) -> Self {
        Self {
            id: InvitationId(row.id),
            role: row.role.0,
            github_login: row.github_login,
            person: PersonName::of(row.user_id, row.user_login, row.user_name),
            signs_in: row.signs_in,
            invited_by: PersonName::of(row.invited_by, row.inviter_login, row.inviter_name),
            created_at: row.created_at.0,
            expires_at: row.expires_at.0,
            used_at: row.used_at.map(|Millis(at)| at),
            used_by: PersonName::of(row.used_by, row.taker_login, row.taker_name),
        }
    }
}

#[derive(FromRow)]
struct OfferRow {
    id: i64,
    team_id: Option<i64>,
    team_name: Option<String>,
    role: Option<Name<AccessRole>>,
    github_login: Option<String>,
    user_id: Option<i64>,
    user_login: Option<String>,
    user_name: Option<String>,
    signs_in: bool,
    expires_at: Millis,
}

/// The invitation in force with the digest `$1` at the time `$2`.
const OFFER: &str = "SELECT invitation.id, invitation.team_id, team.name AS team_name, \
    invitation.role, invitation.github_login, invitation.user_id, person.login AS user_login, \
    person.name AS user_name, invitation.signs_in, invitation.expires_at \
    FROM invitations AS invitation LEFT JOIN teams AS team ON team.id = invitation.team_id \
    LEFT JOIN users AS person ON person.id = invitation.user_id \
    WHERE invitation.token_hash = $1 AND invitation.used_at IS NULL AND invitation.expires_at > $2 \
    AND person.disabled_at IS NULL AND (invitation.invited_by IS NULL \
    OR invitation.team_id IS NULL OR EXISTS (SELECT 1 FROM team_members AS inviter \
    JOIN users AS enabled ON enabled.id = inviter.user_id AND enabled.disabled_at IS NULL \
    WHERE inviter.team_id = invitation.team_id AND inviter.user_id = invitation.invited_by \
    AND inviter.role = 'admin'))";

impl Store {
    /// Stores an invitation. Returns its id and the person that it is bound to.
    pub async fn create_invitation(
        &self,
        invitation: &NewInvitation<'_>,
    ) -> Result<(InvitationId, Option<UserId>)> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let (login, user, signs_in) = match invitation.person {
            InvitedPerson::Anyone => (None, None, false),
            InvitedPerson::Login(login) => (Some(login), None, false),
            InvitedPerson::Known(user) => (None, Some(user), false),
            InvitedPerson::SignedIn(user) => (None, Some(user), true),
            InvitedPerson::New { name, login } => {
                let created = invitation.created_at;
                let user = transaction.create_user(name, login, created).await?;
                (None, user, true)
            }
        };
        let insert = statement(
            "INSERT INTO invitations (team_id, token_hash, role, github_login, user_id, signs_in, \
             invited_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             RETURNING id",
        )
        .bind(invitation.team.map(|(TeamId(team), _)| team))
        .bind(invitation.hash.as_slice())
        .bind(invitation.team.map(|(_, role)| role.as_str()))
        .bind(login.map(storable_text))
        .bind(user.map(|UserId(user)| user))
        .bind(signs_in)
        .bind(invitation.invited_by.map(|UserId(user)| user))
        .bind(Millis(invitation.created_at))
        .bind(Millis(invitation.expires_at));
        let row: Option<(i64,)> = transaction.row(insert).await?;
        transaction.commit().await?;
        Ok((InvitationId(row.map_or(0, |(id,)| id)), user))
    }

    /// Returns the invitations of a team, the newest first.
    pub async fn invitations(&self, TeamId(team): TeamId) -> Result<Vec<InvitationRecord>> {
        let query = statement(
            "SELECT invitation.id, invitation.role, invitation.github_login, invitation.user_id, \
             person.login AS user_login, person.name AS user_name, invitation.signs_in, \
             invitation.invited_by, inviter.login AS inviter_login, inviter.name AS inviter_name, \
             invitation.created_at, invitation.expires_at, invitation.used_at, invitation.used_by, \
             taker.login AS taker_login, taker.name AS taker_name \
             FROM invitations AS invitation \
             LEFT JOIN users AS person ON person.id = invitation.user_id \
             LEFT JOIN users AS inviter ON inviter.id = invitation.invited_by \
             LEFT JOIN users AS taker ON taker.id = invitation.used_by \
             WHERE invitation.team_id = $1 ORDER BY invitation.id DESC",
        )
        .bind(team);
        let rows: Vec<InvitationRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(InvitationRecord::from).collect())
    }

    /// Ends an invitation of a team that was not used. Returns false if there is none.
    pub async fn end_invitation(
        &self,
        TeamId(team): TeamId,
        InvitationId(id): InvitationId,
    ) -> Result<bool> {
        let delete =
            statement("DELETE FROM invitations WHERE team_id = $1 AND id = $2 AND used_at IS NULL")
                .bind(team)
                .bind(id);
        Ok(self.database.execute(delete).await? == 1)
    }

    /// Returns the invitation whose secret has this digest, if it is in force.
    pub async fn invitation_offer(
        &self,
        hash: &TokenHash,
        now: Moment,
    ) -> Result<Option<InvitationOffer>> {
        let query = statement(OFFER).bind(hash.as_slice()).bind(Millis(now));
        let row: Option<OfferRow> = self.database.row(query).await?;
        Ok(row.map(|row| InvitationOffer {
            team: row
                .team_name
                .zip(row.role)
                .map(|(team, Name(role))| (team, role)),
            github_login: row.github_login,
            person: PersonName::of(row.user_id, row.user_login, row.user_name),
            signs_in: row.signs_in,
            expires_at: row.expires_at.0,
        }))
    }

    /// Uses an invitation up for `by`, the person who has signed in, and makes the person a member.
    /// A member keeps its role unless the invitation's is greater.
    pub async fn accept_invitation(
        &self,
        hash: &TokenHash,
        by: Option<UserId>,
        now: Moment,
    ) -> Result<InvitationOutcome> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        // Of two uses at once the second sees the first, and so does the inviter's removal.
        transaction.lock(Lock::Members).await?;
        let outcome = transaction.accept(hash, by, now).await?;
        match outcome {
            InvitationOutcome::Accepted(_) => transaction.commit().await?,
            _ => transaction.rollback().await?,
        }
        Ok(outcome)
    }
}

impl Transaction<'_> {
    async fn accept(
        &mut self,
        hash: &TokenHash,
        by: Option<UserId>,
        now: Moment,
    ) -> Result<InvitationOutcome> {
        let query = statement(OFFER).bind(hash.as_slice()).bind(Millis(now));
        let Some(offer) = self.row::<OfferRow>(query).await? else {
            return Ok(InvitationOutcome::NotValid);
        };
        let bound = offer.user_id.map(UserId);
        let user = match (offer.signs_in, bound, by) {
            (true, Some(bound), _) => bound,
            (_, _, None) => return Ok(InvitationOutcome::SignInFirst),
            (_, Some(bound), Some(by)) if bound != by => {
                return Ok(InvitationOutcome::OtherPerson);
            }
            (_, _, Some(by)) => by,
        };
        if !self
            .is_addressed(user, offer.github_login.as_deref())
            .await?
        {
            return Ok(InvitationOutcome::OtherPerson);
        }
        let team = offer.team_id.map(TeamId);
        if let (Some(team), Some(Name(role))) = (team, offer.role) {
            self.join(team, user, role, now).await?;
        }
        let used = statement(
            "UPDATE invitations SET used_at = $1, used_by = $2 WHERE id = $3 AND used_at IS NULL",
        )
        .bind(Millis(now))
        .bind(user.0)
        .bind(offer.id);
        let is_used = self.execute(used).await? == 1;
        Ok(match is_used {
            true => InvitationOutcome::Accepted(AcceptedInvitation {
                user,
                team,
                signs_in: offer.signs_in,
            }),
            false => InvitationOutcome::NotValid,
        })
    }

    /// Returns true if an invitation that is bound to a login is of this person. A login that an
    /// admin wrote down proves nothing: GitHub has shown the one that counts.
    async fn is_addressed(&mut self, user: UserId, login: Option<&str>) -> Result<bool> {
        let query = statement(
            "SELECT id FROM users WHERE id = $1 AND disabled_at IS NULL \
             AND ($2 IS NULL OR (github_id IS NOT NULL AND lower(login) = $2))",
        )
        .bind(user.0)
        .bind(login.map(str::to_ascii_lowercase));
        Ok(self.row::<(i64,)>(query).await?.is_some())
    }

    async fn join(
        &mut self,
        team: TeamId,
        user: UserId,
        role: AccessRole,
        now: Moment,
    ) -> Result<()> {
        if self
            .insert_member((team, user), role, MemberSource::Invitation, now)
            .await?
        {
            return Ok(());
        }
        let query = statement("SELECT role FROM team_members WHERE team_id = $1 AND user_id = $2")
            .bind(team.0)
            .bind(user.0);
        let known: Option<(Name<AccessRole>,)> = self.row(query).await?;
        if known.is_none_or(|(Name(known),)| known >= role) {
            return Ok(());
        }
        let raise = statement(
            "UPDATE team_members SET role = $3, source = 'invitation' \
             WHERE team_id = $1 AND user_id = $2",
        )
        .bind(team.0)
        .bind(user.0)
        .bind(role.as_str());
        self.execute(raise).await.map(|_| ())
    }
}
