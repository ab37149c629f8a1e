//! Accounts at GitHub: signing people in by the web flow of OAuth.
//!
//! A browser that begins is remembered as a row with digests of its state and its cookie, which is
//! taken once and by that browser alone. The token of a sign-in is asked for the person and for the
//! rules of teams, and ends at GitHub before the session begins: it is stored nowhere.

mod problem;
mod return_place;
mod rules;
mod sign_in;

pub use self::problem::SignInProblem;
pub use self::return_place::ReturnPlace;
pub use self::sign_in::{GithubSignIn, SignedInPerson};
