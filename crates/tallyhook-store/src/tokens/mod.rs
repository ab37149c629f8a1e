//! API tokens, the sessions of people and of tokens, and the WebSocket tickets issued to the holders
//! of either.

mod role;
mod sessions;
mod tickets;
mod token;

pub use self::role::AccessRole;
pub use self::sessions::{
    NewSession, SessionGrant, SessionHolder, SessionId, SessionOwner, SessionRecord, SessionTimes,
    UsedCredential, UserGrant,
};
pub use self::token::{ApiToken, NewToken, TokenGrant, TokenHash};
