//! Roles: the rights that a token gives.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The rights of a caller; each role has those of the roles before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = Role)]
pub enum AccessRole {
    /// Reads the pull requests, numbers, tasks, notifications and repositories of its team.
    Viewer,
    /// Asks for syncs and fresh answers, watches pull requests, changes tasks.
    Member,
    /// Changes repositories, channels and tokens.
    Admin,
    /// Operates the installation: deliveries and dead letters of all teams.
    Operator,
}

impl AccessRole {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Operator];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
