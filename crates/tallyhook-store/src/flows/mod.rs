//! Ways to GitHub and back that a browser has begun: each is taken once, by the same browser.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use crate::columns::{Millis, Name};
use crate::database::statement;
use crate::{Moment, Result, Store, TeamId, TokenHash};

/// The time that an expired flow stays, so that its browser can be shown the reason.
const TOMBSTONE: TimeDelta = TimeDelta::hours(24);

/// The purpose of a way to GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowPurpose {
    SignIn,
    Connect,
    Install,
    Manifest,
}

impl FlowPurpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::Connect => "connect",
            Self::Install => "install",
            Self::Manifest => "manifest",
        }
    }
}

/// A flow that a browser begins.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<'a> {
    /// The digest of the state.
    pub state: &'a TokenHash,
    pub purpose: FlowPurpose,
    /// The digest of the browser's cookie.
    pub browser: &'a TokenHash,
    pub user: Option<i64>,
    pub team: Option<TeamId>,
    /// Of PKCE, sealed.
    pub verifier: Option<&'a [u8]>,
    pub return_to: Option<&'a str>,
    pub expires_at: Moment,
}

/// A flow that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub purpose: FlowPurpose,
    pub user: Option<i64>,
    pub team: Option<TeamId>,
    /// Of PKCE, sealed.
    pub verifier: Option<Vec<u8>>,
    pub return_to: Option<String>,
}

/// The answer to a browser that is back from GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenFlow {
    Taken(Flow),
    /// It took too long.
    Expired(FlowPurpose),
    /// Another browser began it.
    OtherBrowser,
    /// It is unknown, or was taken before.
    Unknown,
}

#[derive(FromRow)]
struct TakenFlowRow {
    purpose: Name<FlowPurpose>,
    user_id: Option<i64>,
    team_id: Option<i64>,
    verifier: Option<Vec<u8>>,
    return_to: Option<String>,
}

impl From<TakenFlowRow> for Flow {
    fn from(row: TakenFlowRow) -> Self {
        Self {
            purpose: row.purpose.0,
            user: row.user_id,
            team: row.team_id.map(TeamId),
            verifier: row.verifier,
            return_to: row.return_to,
        }
    }
}

impl Store {
    /// Stores a flow. Deletes those that expired a day ago.
    pub async fn begin_flow(&self, new: &NewFlow<'_>, now: Moment) -> Result<()> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let delete = statement("DELETE FROM github_flows WHERE expires_at <= $1");
        transaction
            .execute(delete.bind(Millis(now - TOMBSTONE)))
            .await?;
        let insert = statement(
            "INSERT INTO github_flows (state_hash, purpose, browser_hash, user_id, team_id, \
             verifier, return_to, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(hex::encode(new.state))
        .bind(new.purpose.as_str())
        .bind(hex::encode(new.browser))
        .bind(new.user)
        .bind(new.team.map(|TeamId(id)| id))
        .bind(new.verifier)
        .bind(new.return_to)
        .bind(Millis(now))
        .bind(Millis(new.expires_at));
        transaction.execute(insert).await?;
        transaction.commit().await
    }

    /// Takes the flow of a state, which can be done once, and by the browser that began it.
    pub async fn take_flow(
        &self,
        state: &TokenHash,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<TakenFlow> {
        let (state, browser) = (hex::encode(state), hex::encode(browser));
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        let take = statement(
            "DELETE FROM github_flows WHERE state_hash = $1 AND browser_hash = $2 \
             AND expires_at > $3 RETURNING purpose, user_id, team_id, verifier, return_to",
        )
        .bind(state.clone())
        .bind(browser.clone())
        .bind(Millis(now));
        if let Some(row) = transaction.row::<TakenFlowRow>(take).await? {
            transaction.commit().await?;
            return Ok(TakenFlow::Taken(row.into()));
        }
        let query = statement(
            "SELECT purpose, browser_hash FROM github_flows \
             WHERE state_hash = $1 AND expires_at > $2",
        )
        .bind(state)
        .bind(Millis(now - TOMBSTONE));
        let row: Option<(Name<FlowPurpose>, String)> = transaction.row(query).await?;
        transaction.rollback().await?;
        Ok(match row {
            None => TakenFlow::Unknown,
            Some((_, begun_by)) if begun_by != browser => TakenFlow::OtherBrowser,
            Some((Name(purpose), _)) => TakenFlow::Expired(purpose),
        })
    }
}
