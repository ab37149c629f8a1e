//! People, whether they have an account at GitHub or not.

mod sign_ins;
mod user;

pub use self::user::{GithubUser, PersonName, UserId, UserRecord};
