//! The secrets of flows and of the App.

use serde::{Deserialize, Serialize};
use tallyhook_store::{FlowPurpose, Moment, NewFlow, StoredApp, TakenFlow, TeamId, TokenHash};

use super::place::SealedPlace;
use super::secret_bytes::SecretBytes;
use super::vault::{SecretError, Vault};

/// A flow that a browser begins.
pub struct FlowDraft<'a> {
    /// The digest of the state.
    pub state: &'a TokenHash,
    pub purpose: FlowPurpose,
    /// The digest of the browser's cookie.
    pub browser: &'a TokenHash,
    pub user: Option<i64>,
    pub team: Option<TeamId>,
    /// Of PKCE.
    pub verifier: Option<&'a SecretBytes>,
    /// The path of this server to return to.
    pub return_to: Option<&'a str>,
    pub expires_at: Moment,
}

/// The answer to a browser that is back from GitHub.
pub enum ReturnedFlow {
    Taken {
        purpose: FlowPurpose,
        user: Option<i64>,
        team: Option<TeamId>,
        verifier: Option<SecretBytes>,
        return_to: Option<String>,
    },
    /// It took too long.
    Expired(FlowPurpose),
    /// Another browser began it.
    OtherBrowser,
    /// It is unknown, or was taken before.
    Unknown,
}

/// The secrets of the App that was made from the manifest.
pub struct AppSecrets {
    pub client_secret: SecretBytes,
    pub webhook_secret: Option<SecretBytes>,
    /// PEM.
    pub private_key: SecretBytes,
}

/// The form in which the secrets of the App are sealed.
#[derive(Serialize)]
struct SealedForm<'a> {
    client_secret: &'a str,
    webhook_secret: Option<&'a str>,
    private_key: &'a str,
}

impl Vault {
    fn verifier_place<'a>(
        &'a self,
        state: &'a str,
        browser: &'a str,
        purpose: FlowPurpose,
    ) -> SealedPlace<'a> {
        SealedPlace {
            table: "github_flows",
            column: "verifier",
            row: state,
            owner_kind: "browser",
            owner: browser,
            kind: purpose.as_str(),
            host: self.host(),
        }
    }

    fn app_place(&self) -> SealedPlace<'_> {
        SealedPlace {
            table: "github_apps",
            column: "secrets",
            row: "app",
            owner_kind: "instance",
            owner: "app",
            kind: "app",
            host: self.host(),
        }
    }

    /// Stores a flow.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn begin_flow(&self, draft: &FlowDraft<'_>, now: Moment) -> Result<(), SecretError> {
        let (state, browser) = (hex::encode(draft.state), hex::encode(draft.browser));
        let place = self.verifier_place(&state, &browser, draft.purpose);
        let verifier = draft.verifier.map(|secret| self.seal(&place, secret));
        let verifier = verifier.transpose()?;
        let new = NewFlow {
            state: draft.state,
            purpose: draft.purpose,
            browser: draft.browser,
            user: draft.user,
            team: draft.team,
            verifier: verifier.as_deref(),
            return_to: draft.return_to,
            expires_at: draft.expires_at,
        };
        Ok(self.store().begin_flow(&new, now).await?)
    }

    /// Takes the flow of a state, which can be done once, and by the browser that began it.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn take_flow(
        &self,
        state: &TokenHash,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<ReturnedFlow, SecretError> {
        let flow = match self.store().take_flow(state, browser, now).await? {
            TakenFlow::Taken(flow) => flow,
            TakenFlow::Expired(purpose) => return Ok(ReturnedFlow::Expired(purpose)),
            TakenFlow::OtherBrowser => return Ok(ReturnedFlow::OtherBrowser),
            TakenFlow::Unknown => return Ok(ReturnedFlow::Unknown),
        };
        let (state, browser) = (hex::encode(state), hex::encode(browser));
        let place = self.verifier_place(&state, &browser, flow.purpose);
        let verifier = flow.verifier.map(|value| self.open(&place, &value));
        Ok(ReturnedFlow::Taken {
            purpose: flow.purpose,
            user: flow.user,
            team: flow.team,
            verifier: verifier.transpose()?,
            return_to: flow.return_to,
        })
    }

    /// Stores the App of the manifest in place of the one before. `secrets` of `app` are set here.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn save_app(
        &self,
        mut app: StoredApp,
        secrets: &AppSecrets,
    ) -> Result<(), SecretError> {
        let form = SealedForm {
            client_secret: secrets
                .client_secret
                .expose_text()
                .ok_or(SecretError::Damaged)?,
            webhook_secret: secrets
                .webhook_secret
                .as_ref()
                .and_then(SecretBytes::expose_text),
            private_key: secrets
                .private_key
                .expose_text()
                .ok_or(SecretError::Damaged)?,
        };
        let form = serde_json::to_vec(&form).map_err(|_| SecretError::Cryptography)?;
        app.secrets = self.seal(&self.app_place(), &SecretBytes::new(form))?;
        Ok(self.store().put_app(&app).await?)
    }

    /// Returns the App of the manifest with its secrets, if there is one.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn app(&self) -> Result<Option<(StoredApp, AppSecrets)>, SecretError> {
        let Some(app) = self.store().app().await? else {
            return Ok(None);
        };
        let opened = self.open(&self.app_place(), &app.secrets)?;
        let form: OwnedForm =
            serde_json::from_slice(opened.expose()).map_err(|_| SecretError::Damaged)?;
        let secrets = AppSecrets {
            client_secret: form.client_secret.into(),
            webhook_secret: form.webhook_secret.map(SecretBytes::from),
            private_key: form.private_key.into(),
        };
        Ok(Some((app, secrets)))
    }
}

/// The form in which the secrets of the App are read: each text is moved into a secret.
#[derive(Deserialize)]
struct OwnedForm {
    client_secret: String,
    webhook_secret: Option<String>,
    private_key: String,
}
