//! The strength of the secrets that requests are accepted with.

use super::{Config, ConfigError, GITHUB_WEBHOOK_SECRET, TALLYHOOK_ADMIN_TOKEN};

/// Shorter secrets and tokens are refused: they can be guessed by trying.
const TOO_SHORT_SECRET: usize = 8;
/// Shorter ones are warned of: a secret can be guessed offline from one signed delivery.
const SHORT_SECRET: usize = 16;

/// A problem of a secret that requests are accepted with.
#[derive(Debug)]
pub struct WeakSecret {
    pub setting: &'static str,
    /// True if `serve` does not start with it.
    pub is_refused: bool,
    /// The problem in words, which begin with the setting's name.
    pub found: String,
    pub advice: &'static str,
}

impl Config {
    /// Returns the problems of the webhook secrets and of the admin token.
    pub fn weak_secrets(&self) -> Vec<WeakSecret> {
        let secrets = self.webhook_secrets.as_ref();
        let token = self.admin_token.as_ref();
        let mut problems = Vec::new();
        for (setting, length, advice) in [
            (
                GITHUB_WEBHOOK_SECRET,
                secrets.map(|secrets| secrets.shortest()),
                "create one with `openssl rand -hex 32`, and set it at GitHub, too; both can be \
                 set, one a line, until GitHub has the new one",
            ),
            (
                TALLYHOOK_ADMIN_TOKEN,
                token.map(|token| token.chars().count()),
                "create one with `openssl rand -hex 32`",
            ),
        ] {
            let least = match length {
                Some(..TOO_SHORT_SECRET) => TOO_SHORT_SECRET,
                Some(..SHORT_SECRET) => SHORT_SECRET,
                _ => continue,
            };
            problems.push(WeakSecret {
                setting,
                is_refused: least == TOO_SHORT_SECRET,
                found: format!(
                    "{setting} has fewer than {least} characters, or one of its lines has"
                ),
                advice,
            });
        }
        if secrets.is_some_and(|secrets| secrets.has_spaces()) {
            problems.push(WeakSecret {
                setting: GITHUB_WEBHOOK_SECRET,
                is_refused: false,
                found: format!(
                    "{GITHUB_WEBHOOK_SECRET} has a line with spaces in it, which is one secret \
                     now; earlier versions read each word of it as a secret"
                ),
                advice: "if they are several, write one a line, in the file as a list",
            });
        }
        problems
    }

    /// Checks the secrets that requests are accepted with: those of webhooks, and with `api` the
    /// admin token. Returns the warnings.
    ///
    /// # Errors
    /// If one is too short, with the next step.
    pub fn check_secrets(&self, webhooks: bool, api: bool) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        for problem in self.weak_secrets() {
            let is_used = match problem.setting {
                GITHUB_WEBHOOK_SECRET => webhooks,
                _ => api,
            };
            let text = format!("{}: {}", problem.found, problem.advice);
            match (is_used, problem.is_refused) {
                (false, _) => {}
                (true, true) => return Err(ConfigError::of(problem.setting, text)),
                (true, false) => warnings.push(text),
            }
        }
        Ok(warnings)
    }
}
