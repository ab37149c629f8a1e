//! One-time logins: links that start a session without a token. They are in the memory of this
//! process alone.

use std::time::Duration;

use parking_lot::Mutex;
use tallyhook_store::TokenHash;
use tokio::time::Instant;

use super::auth;

/// The time in which a link can be used.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The one-time logins of this process that were not used so far.
#[derive(Debug, Default)]
pub struct OneTimeLogins(Mutex<Vec<OneTimeLogin>>);

#[derive(Debug)]
struct OneTimeLogin {
    code: TokenHash,
    /// The digest of the token whose rights the session gets.
    token: TokenHash,
    expires: Instant,
}

impl OneTimeLogins {
    /// Creates a login with the rights of `token`. Returns its path, which is a secret.
    pub fn create(&self, token: &str) -> String {
        let code = auth::random_text();
        self.0.lock().push(OneTimeLogin {
            code: auth::hash(&code),
            token: auth::hash(token),
            expires: Instant::now() + LIFETIME,
        });
        format!("/login/once/{code}")
    }

    /// Uses up a login. Returns the digest of its token, if it was in force.
    pub(super) fn redeem(&self, code: &str) -> Option<TokenHash> {
        let (code, now) = (auth::hash(code), Instant::now());
        let mut logins = self.0.lock();
        logins.retain(|login| login.expires > now);
        let place = logins.iter().position(|login| login.code == code)?;
        Some(logins.swap_remove(place).token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn login_is_in_force_once_and_for_ten_minutes() {
        let logins = OneTimeLogins::default();
        let code = |path: &str| path.strip_prefix("/login/once/").unwrap().to_owned();
        let (first, second) = (code(&logins.create("one")), code(&logins.create("two")));
        assert!(first.len() == 64 && first != second);
        tokio::time::advance(LIFETIME - Duration::from_secs(1)).await;
        assert_eq!(logins.redeem("another"), None);
        assert_eq!(logins.redeem(&first), Some(auth::hash("one")));
        assert_eq!(logins.redeem(&first), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(logins.redeem(&second), None);
    }
}
