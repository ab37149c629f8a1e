//! API tokens and the WebSocket tickets issued to their holders.

mod tickets;
mod token;

pub use self::token::{ApiToken, TokenHash};
