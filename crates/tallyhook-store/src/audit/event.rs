//! Administrative acts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Moment, TeamId};

/// The kind of the one who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditActorKind {
    /// A person with an account here.
    User,
    /// A browser that signed in with a token.
    Session,
    Token,
    /// The holder of the token of the settings or of the first start.
    Operator,
    /// A command on the server.
    Command,
    /// This program by itself.
    System,
}

impl AuditActorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Token => "token",
            Self::Operator => "operator",
            Self::Command => "command",
            Self::System => "system",
        }
    }
}

/// The one who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditActor {
    pub kind: AuditActorKind,
    pub id: Option<String>,
    /// As it is at the time.
    pub name: String,
}

/// The thing that an act is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditTarget {
    pub kind: Option<String>,
    pub id: Option<String>,
    pub name: Option<String>,
}

/// The result of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    Ok,
    /// The caller lacks the right.
    Denied,
    Failed,
}

impl AuditResult {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// An act that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAuditEvent {
    pub at: Moment,
    /// `None` is the installation itself.
    pub team: Option<TeamId>,
    pub actor: AuditActor,
    pub action: String,
    pub target: AuditTarget,
    /// Without secrets.
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// The beginning of the address.
    pub ip: Option<String>,
    pub agent: Option<String>,
    pub result: AuditResult,
}

/// An act on record.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    pub id: i64,
    pub event: NewAuditEvent,
    /// The name of the team now.
    pub team_name: Option<String>,
}

/// The rows that a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditScope {
    Team(TeamId),
    /// Those of every team, and of none.
    All,
}

/// The acts that a list has. Each condition that is left out holds.
#[derive(Clone, Debug)]
pub struct AuditFilter {
    pub scope: AuditScope,
    /// The first time.
    pub from: Option<Moment>,
    /// The time after the last.
    pub to: Option<Moment>,
    /// Name or id of the one who acted.
    pub actor: Option<String>,
    /// An action, or its first part as in `token`.
    pub action: Option<String>,
}
