//! The web flow of OAuth: the address of the page that asks a person, the exchange of its code, and
//! the refresh of tokens that expire.
//!
//! The token endpoint answers errors with status 200. A code and a refresh token can be used once:
//! a request that may have been processed is never sent again, and its outcome is unknown.

use chrono::{DateTime, TimeDelta, Utc};
use form_urlencoded::Serializer;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::Value;
use tallyhook_core::secret::{Secret, SharedSecret};
use thiserror::Error;
use zeroize::Zeroizing;

use super::client::Client;
use super::error::GithubError;
use super::http::server_time;
use super::pkce::PkceVerifier;
use super::request::{ApiKind, ApiRequest, RequestAccess};
use super::response::{FinalResponse, excerpt};
use super::token::{ClientSecret, Token};
use super::web_url::WebUrl;

/// The path of the page that asks a person.
const AUTHORIZE: &str = "/login/oauth/authorize";
/// The path of the token endpoint.
const ACCESS_TOKEN: &str = "/login/oauth/access_token";
/// The longest validity that is believed: a refresh token has six months.
const MAX_VALIDITY: TimeDelta = TimeDelta::days(3660);

/// The client id and client secret of an OAuth App, or those of a GitHub App. Nothing prints them.
#[derive(Clone)]
pub struct OauthApp {
    client_id: String,
    client_secret: SharedSecret,
}

/// A question to a person: may this program act for them?
pub struct AuthorizationRequest<'a> {
    /// The address that the browser returns to. For a GitHub App it is exactly one of its callback
    /// URLs.
    pub redirect_uri: &'a str,
    /// The scopes of an OAuth App; a GitHub App has permissions instead.
    pub scopes: &'a [&'a str],
    pub state: &'a Secret,
    pub verifier: &'a PkceVerifier,
    /// The account to suggest.
    pub login: Option<&'a str>,
    /// Lets the person choose the account even if the browser is signed in.
    pub choose_account: bool,
}

/// The tokens of a person.
pub struct UserTokens {
    pub access_token: Secret,
    /// By GitHub's clock; `None` of a token that does not expire.
    pub expires_at: Option<DateTime<Utc>>,
    pub refresh_token: Option<Secret>,
    /// `None` without a refresh token, or if it does not expire.
    pub refresh_expires_at: Option<DateTime<Utc>>,
    /// The granted scopes, which can be fewer than those asked for; empty of a GitHub App's token.
    pub scopes: Vec<String>,
}

/// The answer that the browser brings back.
pub enum OauthCallback {
    Code {
        code: Secret,
        state: Secret,
    },
    /// The state is `None` where the question had no place to return to.
    Refused {
        error: OauthError,
        state: Option<Secret>,
    },
}

/// A run through the web flow, or a refresh, without tokens. Named by who has to act.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OauthError {
    /// The code was used, is older than ten minutes, or belongs to another verifier.
    #[error("GitHub does not accept the code of the sign-in ({message}): start again")]
    CodeExpired { message: String },
    /// The person said no.
    #[error("GitHub was not allowed to connect the account: start again, and allow it")]
    AccessDenied,
    /// The person has no verified address.
    #[error(
        "GitHub wants a verified e-mail address of the account: verify one in GitHub's settings, \
         then start again"
    )]
    UnverifiedEmail,
    /// The refresh token was used, revoked or has expired: the person has to connect again.
    #[error("GitHub does not accept the refresh token ({message}): connect the account again")]
    RefreshRefused { message: String },
    /// The operator has to correct the client secret.
    #[error(
        "GitHub does not accept the client id and client secret: set GITHUB_CLIENT_ID and \
         GITHUB_CLIENT_SECRET to those of the App"
    )]
    ClientRefused,
    /// The operator has to enter the callback URL.
    #[error("GitHub does not know the callback URL: enter {redirect_uri} in the App's settings")]
    RedirectMismatch { redirect_uri: String },
    /// The operator has to ask GitHub.
    #[error("the App is suspended: look at its settings at GitHub")]
    AppSuspended,
    /// The operator has to say where GitHub's pages are.
    #[error("the address of GitHub's web site is unknown: set GITHUB_URL to it")]
    UnknownWebSite,
    /// Another word of GitHub's.
    #[error("GitHub refused it ({error}: {message})")]
    Other { error: String, message: String },
    /// The request was sent, and no usable response arrived: the code or the refresh token may be
    /// used up.
    #[error("GitHub may have issued tokens that did not arrive ({reason}): start again")]
    OutcomeUnknown { reason: String },
    /// GitHub did not process the request. The same again may succeed.
    #[error(transparent)]
    Github(GithubError),
}

/// A response of the token endpoint: tokens or an error.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: Option<Secret>,
    #[serde(default)]
    expires_in: Value,
    refresh_token: Option<Secret>,
    #[serde(default)]
    refresh_token_expires_in: Value,
    scope: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl OauthApp {
    /// Returns the App's credentials, or `None` if one of them has characters that GitHub never
    /// uses there.
    pub fn new(client_id: &str, client_secret: SharedSecret) -> Option<Self> {
        let client_id = client_id.to_owned();
        ClientSecret::new(&client_id, client_secret.expose())?;
        Some(Self {
            client_id,
            client_secret,
        })
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the credentials of Basic authentication.
    pub(crate) fn basic(&self) -> Result<ClientSecret, GithubError> {
        ClientSecret::new(&self.client_id, self.client_secret.expose()).ok_or_else(|| {
            GithubError::Unexpected {
                path: "/applications/{client_id}".to_owned(),
                reason: "the client id has invalid characters".to_owned(),
            }
        })
    }

    /// Returns the address of the page of `web` that asks a person. The request goes with PKCE,
    /// which servers that do not know it ignore.
    pub fn authorize_url(&self, web: &WebUrl, request: &AuthorizationRequest<'_>) -> Url {
        let mut url = web.at(AUTHORIZE);
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("client_id", &self.client_id)
                .append_pair("redirect_uri", request.redirect_uri)
                .append_pair("state", request.state.expose())
                .append_pair("code_challenge", &request.verifier.challenge())
                .append_pair("code_challenge_method", "S256");
            if !request.scopes.is_empty() {
                query.append_pair("scope", &request.scopes.join(" "));
            }
            if let Some(login) = request.login {
                query.append_pair("login", login);
            }
            if request.choose_account {
                query.append_pair("prompt", "select_account");
            }
        }
        url
    }
}

impl OauthCallback {
    /// Reads the query of the address that the browser returned to, which is `redirect_uri`. `None`
    /// if it has neither a code with its state nor an error.
    pub fn parse(query: &str, redirect_uri: &str) -> Option<Self> {
        let (mut code, mut state, mut error, mut message) = (None, None, None, String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "code" => code = Some(Secret::new(value.into_owned())),
                "state" => state = Some(Secret::new(value.into_owned())),
                "error" => error = Some(value.into_owned()),
                "error_description" => message = value.into_owned(),
                _ => {}
            }
        }
        match (error, code, state) {
            (Some(error), _, state) => Some(Self::Refused {
                error: OauthError::named(&error, &message, redirect_uri),
                state,
            }),
            (None, Some(code), Some(state)) => Some(Self::Code { code, state }),
            (None, _, _) => None,
        }
    }
}

impl OauthError {
    /// Returns the meaning of GitHub's word `error` about a run that returns to `redirect_uri`.
    fn named(error: &str, message: &str, redirect_uri: &str) -> Self {
        let message = excerpt(message);
        match error {
            "bad_verification_code" => Self::CodeExpired { message },
            "bad_refresh_token" => Self::RefreshRefused { message },
            "incorrect_client_credentials" => Self::ClientRefused,
            "redirect_uri_mismatch" => Self::RedirectMismatch {
                redirect_uri: redirect_uri.to_owned(),
            },
            "unverified_user_email" => Self::UnverifiedEmail,
            "access_denied" => Self::AccessDenied,
            "application_suspended" => Self::AppSuspended,
            other => Self::Other {
                error: excerpt(other),
                message,
            },
        }
    }

    /// Returns whether only the operator of this installation can do something about it.
    pub fn is_for_operator(&self) -> bool {
        matches!(
            self,
            Self::ClientRefused
                | Self::RedirectMismatch { .. }
                | Self::AppSuspended
                | Self::UnknownWebSite
        )
    }
}

impl From<GithubError> for OauthError {
    fn from(error: GithubError) -> Self {
        match error {
            GithubError::Unknown { reason, .. } => Self::OutcomeUnknown { reason },
            // A response that is none of the endpoint's does not say that nothing was done.
            GithubError::Unexpected { reason, .. } => Self::OutcomeUnknown { reason },
            error => Self::Github(error),
        }
    }
}

impl UserTokens {
    /// Returns the access token as credentials of the connection `name`.
    pub fn token(&self, name: &str) -> Option<Token> {
        Token::parse(self.access_token.expose()).map(|token| token.of_connection(name))
    }
}

impl Client {
    /// Exchanges the code that the browser brought back to `redirect_uri` for tokens. It is sent
    /// once.
    ///
    /// # Errors
    /// [`OauthError`], named by who has to act.
    pub async fn exchange_code(
        &self,
        app: &OauthApp,
        code: &Secret,
        redirect_uri: &str,
        verifier: &PkceVerifier,
    ) -> Result<UserTokens, OauthError> {
        let fields = [
            ("code", code.expose()),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier.expose()),
        ];
        self.request_tokens(app, &fields, redirect_uri).await
    }

    /// Exchanges a refresh token for tokens. It is sent once: GitHub ends both old tokens with it.
    ///
    /// # Errors
    /// [`OauthError`]. Only [`OauthError::RefreshRefused`] says that the old tokens have ended.
    pub async fn refresh_tokens(
        &self,
        app: &OauthApp,
        refresh_token: &Secret,
    ) -> Result<UserTokens, OauthError> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
        ];
        self.request_tokens(app, &fields, "").await
    }

    async fn request_tokens(
        &self,
        app: &OauthApp,
        fields: &[(&str, &str)],
        redirect_uri: &str,
    ) -> Result<UserTokens, OauthError> {
        let web = self.transport().api.web();
        let url = web.ok_or(OauthError::UnknownWebSite)?.at(ACCESS_TOKEN);
        let form = Serializer::new(String::new())
            .append_pair("client_id", &app.client_id)
            .append_pair("client_secret", app.client_secret.expose())
            .extend_pairs(fields)
            .finish();
        let request = ApiRequest {
            method: Method::POST,
            body: Some(Zeroizing::new(form.into_bytes())),
            api: ApiKind::Oauth,
            repeatable: false,
            ..ApiRequest::get(RequestAccess::OauthClient)
        };
        let FinalResponse { headers, body, .. } = self.execute(request, url).await?;
        let body = Zeroizing::new(body);
        let now = server_time(&headers).unwrap_or_else(|| self.transport().clock.now());
        read_tokens(&body, now, redirect_uri)
    }
}

/// Reads a response that GitHub wrote at `now` by its own clock.
fn read_tokens(
    body: &[u8],
    now: DateTime<Utc>,
    redirect_uri: &str,
) -> Result<UserTokens, OauthError> {
    let unknown = |reason: &str| OauthError::OutcomeUnknown {
        reason: reason.to_owned(),
    };
    let response: TokenResponse =
        serde_json::from_slice(body).map_err(|_| unknown("the response is no JSON of tokens"))?;
    if let Some(error) = response.error {
        let message = response.error_description.unwrap_or_default();
        return Err(OauthError::named(&error, &message, redirect_uri));
    }
    let access_token = response
        .access_token
        .filter(|token| Token::parse(token.expose()).is_some())
        .ok_or_else(|| unknown("the response has no token"))?;
    let refresh_token = response
        .refresh_token
        .filter(|token| !token.expose().is_empty());
    let refresh_expires_at = expiry(&response.refresh_token_expires_in, now);
    Ok(UserTokens {
        access_token,
        expires_at: expiry(&response.expires_in, now),
        refresh_expires_at: refresh_expires_at.filter(|_| refresh_token.is_some()),
        refresh_token,
        scopes: scopes(&response.scope.unwrap_or_default()),
    })
}

/// Returns the end of a validity of so many seconds; `None` if it has none.
fn expiry(seconds: &Value, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let seconds = match seconds {
        Value::Number(number) => number.as_i64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    let validity = TimeDelta::seconds(seconds.clamp(0, MAX_VALIDITY.num_seconds()));
    Some(now + validity)
}

/// Splits a list of scopes, which has commas in answers and spaces in questions.
pub(crate) fn scopes(text: &str) -> Vec<String> {
    text.split([',', ' '])
        .filter(|scope| !scope.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLBACK: &str = "https://tallyhook.example.com/github/callback";

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_445_600, 0).unwrap()
    }

    fn read(body: &Value) -> Result<UserTokens, OauthError> {
        read_tokens(body.to_string().as_bytes(), now(), CALLBACK)
    }

    #[test]
    fn every_error_of_the_token_endpoint_says_who_has_to_act() {
        for (error, description, words, is_for_operator) in [
            (
                "bad_verification_code",
                "The code passed is incorrect or expired.",
                "(The code passed is incorrect or expired.): start again",
                false,
            ),
            (
                "bad_refresh_token",
                "The refresh token passed is incorrect or expired.",
                "(The refresh token passed is incorrect or expired.): connect the account again",
                false,
            ),
            (
                "incorrect_client_credentials",
                "The client_id and/or client_secret passed are incorrect.",
                "GITHUB_CLIENT_SECRET",
                true,
            ),
            (
                "redirect_uri_mismatch",
                "The redirect_uri MUST match the registered callback URL for this application.",
                "enter https://tallyhook.example.com/github/callback",
                true,
            ),
            (
                "unverified_user_email",
                "The primary email address must be verified.",
                "verify one",
                false,
            ),
            ("access_denied", "", "allow it", false),
            ("application_suspended", "", "suspended", true),
            ("slow_down", "Too\nfast", "(slow_down: Too fast)", false),
        ] {
            let body = serde_json::json!({"error": error, "error_description": description});
            let refusal = read(&body).err().unwrap();
            let text = refusal.to_string();
            assert!(text.contains(words), "{text}");
            assert_eq!(refusal.is_for_operator(), is_for_operator, "{text}");
        }
    }

    #[test]
    fn error_beside_a_token_is_an_error() {
        let body = serde_json::json!({"access_token": "ghu_1", "error": "bad_refresh_token"});
        assert!(matches!(
            read(&body),
            Err(OauthError::RefreshRefused { .. })
        ));
    }

    #[test]
    fn expiry_is_counted_from_the_response_and_its_absence_means_never() {
        let tokens = read(&serde_json::json!({
            "access_token": "ghu_1", "expires_in": 28800, "refresh_token": "ghr_1",
            "refresh_token_expires_in": "15811200", "scope": "", "token_type": "bearer",
        }))
        .ok()
        .unwrap();
        assert_eq!(tokens.expires_at, Some(now() + TimeDelta::hours(8)));
        assert_eq!(
            tokens.refresh_expires_at,
            Some(now() + TimeDelta::seconds(15_811_200))
        );
        assert_eq!(tokens.scopes, [""; 0]);

        let forever = read(&serde_json::json!({"access_token": "gho_1", "scope": "repo,read:org"}));
        let forever = forever.ok().unwrap();
        assert_eq!(
            (forever.expires_at, forever.refresh_expires_at),
            (None, None)
        );
        assert!(forever.refresh_token.is_none());
        assert_eq!(forever.scopes, ["repo", "read:org"]);

        let huge = serde_json::json!({"access_token": "gho_1", "expires_in": i64::MAX});
        let huge = read(&huge).ok().unwrap();
        assert_eq!(huge.expires_at, Some(now() + MAX_VALIDITY));
    }

    #[test]
    fn response_without_a_token_leaves_the_outcome_unknown() {
        for body in [
            "<html>",
            "{}",
            r#"{"access_token": ""}"#,
            "[]",
            r#"{"access_token":7}"#,
        ] {
            let read = read_tokens(body.as_bytes(), now(), CALLBACK);
            assert!(
                matches!(read, Err(OauthError::OutcomeUnknown { .. })),
                "{body}"
            );
        }
    }

    #[test]
    fn callback_has_a_code_with_its_state_or_an_error() {
        let Some(OauthCallback::Code { code, state }) =
            OauthCallback::parse("code=a%2Fb&state=s&x=y", CALLBACK)
        else {
            panic!("no code");
        };
        assert_eq!((code.expose(), state.expose()), ("a/b", "s"));
        let denied = "error=access_denied&error_description=The+user+has+denied&state=s&code=c";
        let Some(OauthCallback::Refused { error, state }) = OauthCallback::parse(denied, CALLBACK)
        else {
            panic!("no error");
        };
        assert_eq!(error, OauthError::AccessDenied);
        assert_eq!(state.unwrap().expose(), "s");
        for neither in ["", "code=c", "state=s"] {
            assert!(
                OauthCallback::parse(neither, CALLBACK).is_none(),
                "{neither}"
            );
        }
    }

    #[test]
    fn page_is_asked_for_with_pkce_and_state() {
        let app = OauthApp::new("Iv1.a", SharedSecret::new(Secret::new("s".to_owned()))).unwrap();
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned();
        let verifier = PkceVerifier::parse(Secret::new(verifier)).unwrap();
        let mut request = AuthorizationRequest {
            redirect_uri: CALLBACK,
            scopes: &["repo", "read:org"],
            state: &Secret::new("s&t".to_owned()),
            verifier: &verifier,
            login: Some("octocat"),
            choose_account: true,
        };
        let web: WebUrl = "https://github.com".parse().unwrap();
        let pairs = |url: &Url| -> Vec<String> {
            let pairs = url.query_pairs();
            pairs
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        let url = app.authorize_url(&web, &request);
        assert!(
            url.as_str()
                .starts_with("https://github.com/login/oauth/authorize?client_id=Iv1.a&")
        );
        assert_eq!(
            pairs(&url)[1..],
            [
                "redirect_uri=https://tallyhook.example.com/github/callback",
                "state=s&t",
                "code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
                "code_challenge_method=S256",
                "scope=repo read:org",
                "login=octocat",
                "prompt=select_account",
            ]
        );
        (request.scopes, request.login, request.choose_account) = (&[], None, false);
        assert_eq!(pairs(&app.authorize_url(&web, &request)).len(), 5);
    }
}
