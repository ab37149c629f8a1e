//! Signing in with GitHub, from the first request of a browser to the person.

use std::sync::Arc;

use chrono::TimeDelta;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tallyhook_core::secret::Secret;
use tallyhook_github_client::hooks::GithubName;
use tallyhook_github_client::{
    AuthorizationRequest, CallOrigin, Client, Clock, Credentials, OauthApp, OauthCallback,
    PkceVerifier, TokenRevocation, UserTokens, WebUrl, random_secret,
};
use tallyhook_store::{FlowPurpose, GithubUser, Moment, RuleAnswers, Store, TokenHash, UserId};
use uuid::Uuid;

use super::rules::RuleQuestions;
use super::{ReturnPlace, SignInProblem};
use crate::config::{Config, PublicUrl, SignInMode};
use crate::logging::MinuteLine;
use crate::secrets::{FlowDraft, ReturnedFlow, SecretBytes, Vault};

/// The path that browsers return to.
const CALLBACK: &str = "/github/callback";
/// The time from the first request to the return.
const PATIENCE: TimeDelta = TimeDelta::minutes(15);
/// The tokens of one person and App that GitHub issues within an hour without ending older ones,
/// less one for another part of this program.
const MAX_SIGN_INS: usize = 9;
/// The beginning of the tokens that a GitHub App gets. They have no scopes, so that GitHub counts
/// those of sign-ins and those of connections together.
const APP_TOKEN: &str = "ghu_";

/// The way to sign in with an account at GitHub.
pub struct GithubSignIn {
    app: OauthApp,
    web: WebUrl,
    /// The address that browsers return to. It is made of the settings, never of a request.
    callback: String,
    client: Client,
    vault: Vault,
    line: Mutex<MinuteLine>,
}

/// A person who has signed in.
#[derive(Debug)]
pub struct SignedInPerson {
    pub user: UserId,
    pub place: ReturnPlace,
}

impl GithubSignIn {
    /// Returns the way of the settings; `None` if it is off. `client` is the one of the settings'
    /// credentials, if there are any.
    ///
    /// # Errors
    /// If TLS cannot be set up on this machine.
    pub fn of_settings(
        config: &Config,
        client: Option<&Client>,
        vault: &Vault,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let (Some(app), Some(public), Some(web)) = (
            config.oauth_app.clone(),
            &config.public_url,
            config.github_api_url.web().cloned(),
        ) else {
            return Ok(None);
        };
        if config.sign_in == SignInMode::Off {
            return Ok(None);
        }
        let client = match client {
            Some(client) => client.clone(),
            None => {
                let (api, timeout) = (config.github_api_url.clone(), config.sync.timeout);
                Client::without_settings(api, Clock::System, timeout)?
            }
        };
        Ok(Some(Arc::new(Self {
            app,
            web,
            callback: callback(public),
            client: client.with_origin(CallOrigin {
                actor: Some("system:sign-in".into()),
                ..CallOrigin::default()
            }),
            vault: vault.clone(),
            line: Mutex::default(),
        })))
    }

    fn store(&self) -> &Store {
        self.vault.store()
    }

    /// Begins the way of a browser, known by the digest of its cookie. Returns the address of
    /// GitHub's page that asks the person.
    ///
    /// # Errors
    /// [`SignInProblem`].
    pub async fn begin(
        &self,
        browser: &TokenHash,
        place: &ReturnPlace,
        now: Moment,
    ) -> Result<String, SignInProblem> {
        let recent = self.store().sign_ins_of_browser(browser, now).await?;
        if let Some(surplus) = recent.len().checked_sub(MAX_SIGN_INS) {
            return Err(SignInProblem::TooManySignIns(recent[surplus]));
        }
        // Rules are about organizations, which a token without this scope does not see.
        let has_rules = !self.store().team_rules(None).await?.is_empty();
        let scopes: &[&str] = if has_rules { &["read:org"] } else { &[] };
        let (state, verifier) = (random_secret(), PkceVerifier::random());
        let draft = FlowDraft {
            state: &digest(&state),
            purpose: FlowPurpose::SignIn,
            browser,
            user: None,
            team: None,
            verifier: Some(&SecretBytes::from(verifier.expose())),
            return_to: Some(&place.stored()),
            expires_at: now + PATIENCE,
        };
        self.vault
            .begin_flow(&draft, now)
            .await
            .map_err(|error| self.logged(error.into()))?;
        let request = AuthorizationRequest {
            redirect_uri: &self.callback,
            scopes,
            state: &state,
            verifier: &verifier,
            login: None,
            choose_account: false,
        };
        Ok(self.app.authorize_url(&self.web, &request).into())
    }

    /// Ends the way of a browser that returned with `query`. The person is stored as GitHub shows
    /// it, with the memberships by rules that hold now.
    ///
    /// # Errors
    /// [`SignInProblem`].
    pub async fn finish(
        &self,
        query: &str,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<SignedInPerson, SignInProblem> {
        self.end_of_way(query, browser, now)
            .await
            .map_err(|problem| self.logged(problem))
    }

    async fn end_of_way(
        &self,
        query: &str,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<SignedInPerson, SignInProblem> {
        let (state, code) = match OauthCallback::parse(query, &self.callback) {
            Some(OauthCallback::Code { code, state }) => (state, Ok(code)),
            Some(OauthCallback::Refused {
                error,
                state: Some(state),
            }) => (state, Err(error)),
            _ => return Err(SignInProblem::FlowUnknown),
        };
        let flow = self.vault.take_flow(&digest(&state), browser, now).await?;
        let (verifier, place) = match flow {
            ReturnedFlow::Taken {
                purpose: FlowPurpose::SignIn,
                verifier: Some(verifier),
                return_to,
                ..
            } => (verifier, ReturnPlace::parse(return_to)),
            ReturnedFlow::Taken { .. } | ReturnedFlow::Unknown => {
                return Err(SignInProblem::FlowUnknown);
            }
            ReturnedFlow::Expired(_) => return Err(SignInProblem::FlowExpired),
            ReturnedFlow::OtherBrowser => return Err(SignInProblem::FlowOtherBrowser),
        };
        let of = |error| SignInProblem::of(error, place.clone());
        let code = code.map_err(of)?;
        let verifier = verifier.expose_text().map(str::to_owned).map(Secret::new);
        let verifier = verifier.and_then(PkceVerifier::parse);
        let verifier = verifier.ok_or(SignInProblem::FlowUnknown)?;
        let exchanged = self
            .client
            .exchange_code(&self.app, &code, &self.callback, &verifier);
        let tokens = exchanged.await.map_err(of)?;
        let user = self.identify(&tokens, browser, now).await;
        // Whatever GitHub said of the person: a sign-in needs the token no longer.
        self.end_token(&tokens).await;
        let user = user?;
        Ok(SignedInPerson { user, place })
    }

    /// Asks GitHub for the person of new tokens and stores it.
    async fn identify(
        &self,
        tokens: &UserTokens,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<UserId, SignInProblem> {
        let token = tokens.token("sign-in");
        let token = token.ok_or(SignInProblem::OutcomeUnknown)?;
        // An account of its own for each: the person is not known yet.
        let name = format!("sign-in {}", Uuid::new_v4());
        let person = self.client.account(&name, Credentials::Token(token));
        let user = self.identify_with(&person, tokens, browser, now).await;
        self.client.end_account(&name);
        user
    }

    async fn identify_with(
        &self,
        person: &Client,
        tokens: &UserTokens,
        browser: &TokenHash,
        now: Moment,
    ) -> Result<UserId, SignInProblem> {
        let account = person.user().await.map_err(|error| {
            tracing::warn!(%error, "GitHub does not say who signs in: {error}");
            SignInProblem::GithubUnavailable
        })?;
        let shown = GithubUser {
            id: account.id,
            login: &account.login,
            name: account.name.as_deref(),
            avatar_url: account.avatar_url.as_deref(),
        };
        let user = self.store().record_github_user(&shown, now).await?;
        let user = user.ok_or(SignInProblem::PersonDisabled)?;
        if tokens.access_token.expose().starts_with(APP_TOKEN) {
            self.store().record_sign_in(user, browser, now).await?;
        }
        let rules = self.store().team_rules(None).await?;
        if let Ok(login) = account.login.parse::<GithubName>() {
            let answers = RuleQuestions::ask(person, &login, &rules).await;
            let answers = RuleAnswers {
                holding: &answers.holding,
                unanswered: &answers.unanswered,
            };
            self.store().apply_rule_answers(user, answers, now).await?;
        }
        Ok(user)
    }

    /// Ends the token at GitHub, and no other one of the person.
    async fn end_token(&self, tokens: &UserTokens) {
        let ended = self.client.delete_token(&self.app, &tokens.access_token);
        match ended.await {
            Ok(TokenRevocation::Revoked | TokenRevocation::HadEnded) => {}
            Ok(TokenRevocation::NotOffered) => {
                tracing::debug!("this GitHub does not end tokens of sign-ins");
            }
            Err(error) => tracing::warn!(
                %error,
                "GitHub did not end the token of a sign-in, which is stored nowhere: {error}"
            ),
        }
    }

    /// Logs a problem that an operator has to act on, once a minute.
    fn logged(&self, problem: SignInProblem) -> SignInProblem {
        let is_for_operator = matches!(
            problem,
            SignInProblem::AppMisconfigured(_) | SignInProblem::Secrets(_)
        );
        if is_for_operator && let Some(times) = self.line.lock().count() {
            let code = problem.code();
            tracing::error!(
                problem = code,
                times,
                "people could not sign in with GitHub, {times} times ({code}): {problem}; this is \
                 logged once a minute"
            );
        }
        problem
    }
}

/// Returns the address that browsers return to.
fn callback(public: &PublicUrl) -> String {
    format!("{}{}{CALLBACK}", public.origin(), public.path())
}

fn digest(secret: &Secret) -> TokenHash {
    Sha256::digest(secret.expose()).into()
}
