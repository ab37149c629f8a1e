//! The strength of the secrets that requests are accepted with.

use super::{Config, ConfigError, GITHUB_WEBHOOK_SECRET, TALLYHOOK_ADMIN_TOKEN};

/// Shorter secrets and tokens are refused: they can be guessed by trying.
pub const TOO_SHORT_SECRET: usize = 8;
/// Shorter ones are warned of: a secret can be guessed offline from one signed delivery.
pub const SHORT_SECRET: usize = 16;
/// The warning of a secret that earlier versions read as several.
pub const SPACED_SECRET: &str = "has a line with spaces in it, which is one secret now; earlier \
    versions read each word of it as a secret. If they are several, write one a line";

impl Config {
    /// Checks the secrets that requests are accepted with: those of webhooks, and with `api` the
    /// admin token. Returns the warnings.
    ///
    /// # Errors
    /// If one is too short, with the next step.
    pub fn check_secrets(&self, webhooks: bool, api: bool) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        let secrets = self.webhook_secrets.as_ref().filter(|_| webhooks);
        let token = self.admin_token.as_ref().filter(|_| api);
        for (name, length, advice) in [
            (
                GITHUB_WEBHOOK_SECRET,
                secrets.map(|secrets| secrets.shortest()),
                ", and set it at GitHub, too",
            ),
            (
                TALLYHOOK_ADMIN_TOKEN,
                token.map(|token| token.chars().count()),
                "",
            ),
        ] {
            let advice = format!("create one with `openssl rand -hex 32`{advice}");
            match length {
                Some(..TOO_SHORT_SECRET) => {
                    return Err(ConfigError::new(format!(
                        "{name} has fewer than {TOO_SHORT_SECRET} characters, or one of its lines \
                         has: {advice}"
                    )));
                }
                Some(..SHORT_SECRET) => warnings.push(format!(
                    "{name} has fewer than {SHORT_SECRET} characters, or one of its lines has: \
                     {advice}"
                )),
                _ => {}
            }
        }
        if secrets.is_some_and(|secrets| secrets.has_spaces()) {
            warnings.push(format!("{GITHUB_WEBHOOK_SECRET} {SPACED_SECRET}"));
        }
        Ok(warnings)
    }
}
