//! API tokens, the sessions that were started with them, and the WebSocket tickets issued to the
//! holders of either.

mod role;
mod sessions;
mod tickets;
mod token;

pub use self::role::AccessRole;
pub use self::sessions::{
    NewSession, SessionGrant, SessionId, SessionRecord, SessionTimes, UsedCredential,
};
pub use self::token::{ApiToken, DEFAULT_TEAM, NewToken, TeamId, TokenGrant, TokenHash};
