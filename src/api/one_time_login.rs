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
    pub fn create(&self, token: &str, now: Instant) -> String {
        let code = auth::random_text();
        self.0.lock().push(OneTimeLogin {
            code: auth::hash(&code),
            token: auth::hash(token),
            expires: now + LIFETIME,
        });
        format!("/login/once/{code}")
    }

    /// Uses up a login. Returns the digest of its token, if it was in force.
    pub(super) fn redeem(&self, code: &str, now: Instant) -> Option<TokenHash> {
        let code = auth::hash(code);
        let mut logins = self.0.lock();
        logins.retain(|login| login.expires > now);
        let place = logins.iter().position(|login| login.code == code)?;
        Some(logins.swap_remove(place).token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_is_in_force_once_and_for_ten_minutes() {
        let logins = OneTimeLogins::default();
        let code = |path: &str| path.strip_prefix("/login/once/").unwrap().to_owned();
        let start = Instant::now();
        let create = |token| code(&logins.create(token, start));
        let (first, second) = (create("one"), create("two"));
        assert!(first.len() == 64 && first != second);
        let just_in_time = start + LIFETIME - Duration::from_secs(1);
        assert_eq!(logins.redeem("another", just_in_time), None);
        assert_eq!(logins.redeem(&first, just_in_time), Some(auth::hash("one")));
        assert_eq!(logins.redeem(&first, just_in_time), None);
        assert_eq!(logins.redeem(&second, start + LIFETIME), None);
    }
}
