//! OAuth: the page that asks a person, the exchange of its code, and the refresh of tokens.

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::access::Rights;
use super::answers::plain;
use super::directory::{PersonToken, RefreshToken};
use super::rest::{Parameters, RestAnswer};
use super::{FakeGithub, State};

/// The validity of a code.
const CODE: TimeDelta = TimeDelta::minutes(10);
/// The validity of a token of a GitHub App, and of its refresh token.
const ACCESS: TimeDelta = TimeDelta::seconds(28_800);
const REFRESH: TimeDelta = TimeDelta::seconds(15_811_200);
/// The number of tokens for one person, application and set of scopes; as many new ones an hour.
const MAX_TOKENS: usize = 10;
/// The cookie of the browser's session with the fake. Its value is the login.
const SESSION: &str = "user_session=";

/// Applications, codes, and the person at the browser.
#[derive(Default)]
pub(super) struct FakeOauth {
    pub(super) apps: Vec<FakeOauthApp>,
    codes: Vec<AuthorizationCode>,
    /// The login of the browser's person; a cookie takes precedence.
    browser: Option<String>,
    consent: Consent,
    /// The issued tokens: person, application, scopes and time.
    issued: Vec<(i64, String, String, DateTime<Utc>)>,
}

/// An OAuth App, or a GitHub App as an OAuth client.
#[derive(Clone, Debug)]
pub struct FakeOauthApp {
    pub client_id: String,
    pub client_secret: String,
    /// The id of a GitHub App; `None` of an OAuth App.
    pub app_id: Option<i64>,
    /// The registered callback URLs.
    pub callbacks: Vec<String>,
    pub is_suspended: bool,
    /// Its tokens expire.
    pub expires: bool,
}

/// The answer of the person at the browser.
#[derive(Clone, Debug, Default)]
pub enum Consent {
    /// All that is asked for.
    #[default]
    Allow,
    /// At most these scopes: the others are unticked.
    Only(Vec<String>),
    Deny,
}

struct AuthorizationCode {
    code: String,
    client_id: String,
    user: i64,
    redirect_uri: String,
    challenge: Option<String>,
    scopes: Vec<String>,
    issued_at: DateTime<Utc>,
    is_used: bool,
}

/// An error of the token endpoint.
struct OauthProblem(&'static str, &'static str);

const BAD_CODE: OauthProblem = OauthProblem(
    "bad_verification_code",
    "The code passed is incorrect or expired.",
);
const BAD_REFRESH: OauthProblem = OauthProblem(
    "bad_refresh_token",
    "The refresh token passed is incorrect or expired.",
);
const BAD_CLIENT: OauthProblem = OauthProblem(
    "incorrect_client_credentials",
    "The client_id and/or client_secret passed are incorrect.",
);
const MISMATCH: OauthProblem = OauthProblem(
    "redirect_uri_mismatch",
    "The redirect_uri MUST match the registered callback URL for this application.",
);
const UNVERIFIED: OauthProblem = OauthProblem(
    "unverified_user_email",
    "The user must have a verified primary email.",
);

impl FakeOauthApp {
    /// Returns a GitHub App with this callback URL, whose tokens expire.
    pub fn github_app(client_id: &str, client_secret: &str, app_id: i64, callback: &str) -> Self {
        Self {
            app_id: Some(app_id),
            expires: true,
            ..Self::oauth_app(client_id, client_secret, callback)
        }
    }

    /// Returns an OAuth App with this callback URL, whose tokens do not expire.
    pub fn oauth_app(client_id: &str, client_secret: &str, callback: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            app_id: None,
            callbacks: vec![callback.to_owned()],
            is_suspended: false,
            expires: false,
        }
    }

    /// Returns true if the browser may return to `uri`: of a GitHub App exactly a callback URL, of
    /// an OAuth App one below it. A callback on the same machine may have any port.
    fn admits(&self, uri: &str) -> bool {
        let Ok(uri) = Url::parse(uri) else {
            return false;
        };
        self.callbacks.iter().any(|callback| {
            let callback = Url::parse(callback).unwrap();
            let is_loopback = ["127.0.0.1", "[::1]"].contains(&callback.host_str().unwrap());
            let is_path = match self.app_id {
                Some(_) => uri.path() == callback.path() && uri.query() == callback.query(),
                None => uri.path().starts_with(callback.path()),
            };
            uri.scheme() == callback.scheme()
                && uri.host_str() == callback.host_str()
                && (is_loopback || uri.port_or_known_default() == callback.port_or_known_default())
                && is_path
        })
    }
}

impl FakeGithub {
    /// Registers an application.
    pub fn add_oauth_app(&self, app: FakeOauthApp) {
        self.state().oauth.apps.push(app);
    }

    /// Changes an application.
    ///
    /// # Panics
    /// If there is no such application.
    pub fn change_oauth_app(&self, client_id: &str, change: impl FnOnce(&mut FakeOauthApp)) {
        let mut state = self.state();
        change(state.oauth.app_mut(client_id).unwrap());
    }

    /// Sets the person at the browser, and their answer to every application.
    pub fn browse_as(&self, login: &str, consent: Consent) {
        let mut state = self.state();
        (state.oauth.browser, state.oauth.consent) = (Some(login.to_owned()), consent);
    }

    /// Ends all tokens of a person that an application has, as the button in GitHub's settings
    /// does. Returns the payload of the webhook about it.
    ///
    /// # Panics
    /// If there is no such person.
    pub fn revoke_authorization(&self, client_id: &str, login: &str) -> Value {
        let mut state = self.state();
        let person = state.directory.person(login).unwrap().account.clone();
        state.end_tokens(|token| {
            token.user == person.id && token.client_id.as_deref() == Some(client_id)
        });
        json!({
            "action": "revoked",
            "sender": crate::payloads::objects::account(Some(&person)),
        })
    }
}

impl FakeOauth {
    pub(super) fn app(&self, client_id: &str) -> Option<&FakeOauthApp> {
        self.apps.iter().find(|app| app.client_id == client_id)
    }

    fn app_mut(&mut self, client_id: &str) -> Option<&mut FakeOauthApp> {
        self.apps.iter_mut().find(|app| app.client_id == client_id)
    }
}

/// Answers the requests to the web site that OAuth consists of.
pub(super) fn answer(
    state: &mut State,
    request: &HttpRequest,
    body: &[u8],
) -> Option<HttpResponse> {
    match (request.method().as_str(), request.path()) {
        ("GET", "/login/oauth/authorize") => Some(state.authorize_page(request)),
        ("POST", "/login/oauth/access_token") => Some(state.token_endpoint(request, body)),
        _ => None,
    }
}

impl State {
    fn authorize_page(&mut self, request: &HttpRequest) -> HttpResponse {
        let parameters = Parameters::of(request);
        let get = |name: &str| parameters.get(name);
        let Some(app) = self
            .oauth
            .app(get("client_id").unwrap_or_default())
            .cloned()
        else {
            return plain(RestAnswer::missing());
        };
        let wanted = get("redirect_uri").unwrap_or(&app.callbacks[0]);
        let state = get("state");
        let refuse = |error: &str, description: &str| {
            let pairs = [("error", error), ("error_description", description)];
            redirect(&app.callbacks[0], &pairs, state)
        };
        if app.is_suspended {
            return refuse(
                "application_suspended",
                "Your application has been suspended.",
            );
        }
        if !app.admits(wanted) {
            return refuse(MISMATCH.0, MISMATCH.1);
        }
        let challenge = get("code_challenge").map(str::to_owned);
        if challenge.is_some() && get("code_challenge_method") != Some("S256") {
            return HttpResponse::BadRequest().body("only S256 is supported");
        }
        let Some(person) = self.at_browser(request) else {
            return HttpResponse::Unauthorized().body("nobody is signed in");
        };
        let asked = get("scope").unwrap_or_default();
        let asked = asked.split([' ', ',']).filter(|scope| !scope.is_empty());
        let scopes: Vec<_> = match &self.oauth.consent {
            Consent::Deny => {
                let why = "The user has denied your application access.";
                let pairs = [("error", "access_denied"), ("error_description", why)];
                return redirect(wanted, &pairs, state);
            }
            Consent::Allow => asked.map(str::to_owned).collect(),
            Consent::Only(granted) => asked
                .filter(|scope| granted.iter().any(|known| known == scope))
                .map(str::to_owned)
                .collect(),
        };
        let code = self.directory.make("", 20);
        let issued_at = self.now();
        self.oauth.codes.push(AuthorizationCode {
            code: code.clone(),
            client_id: app.client_id.clone(),
            user: person,
            redirect_uri: wanted.to_owned(),
            challenge,
            scopes: if app.app_id.is_some() {
                Vec::new()
            } else {
                scopes
            },
            issued_at,
            is_used: false,
        });
        redirect(wanted, &[("code", &code)], state)
    }

    /// Returns the id of the person at the browser.
    fn at_browser(&self, request: &HttpRequest) -> Option<i64> {
        let cookies = request.headers().get("cookie");
        let login = cookies
            .and_then(|cookies| cookies.to_str().ok())
            .and_then(|cookies| {
                cookies
                    .split("; ")
                    .find_map(|cookie| cookie.strip_prefix(SESSION))
            })
            .or(self.oauth.browser.as_deref())?;
        Some(self.directory.person(login)?.account.id)
    }

    fn token_endpoint(&mut self, request: &HttpRequest, body: &[u8]) -> HttpResponse {
        let is_json = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let fields: Vec<(String, String)> = if is_json {
            let fields: Value = serde_json::from_slice(body).unwrap_or_default();
            let fields = fields.as_object().cloned().unwrap_or_default();
            let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
            fields
                .into_iter()
                .map(|(name, value)| (name, text(value)))
                .collect()
        } else {
            form(body)
        };
        let field = |name: &str| {
            let found = fields.iter().find(|(known, _)| known == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let now = self.now();
        self.end_expired();
        let app = self.oauth.app(field("client_id")).cloned();
        let result = match app.filter(|app| app.client_secret == field("client_secret")) {
            None => Err(BAD_CLIENT),
            Some(app) if field("grant_type") == "refresh_token" => {
                self.refresh(&app, field("refresh_token"), now)
            }
            Some(app) => self.exchange(
                &app,
                (field("code"), field("code_verifier"), field("redirect_uri")),
                now,
            ),
        };
        // Errors have status 200, too.
        let answer = result.unwrap_or_else(|OauthProblem(error, description)| {
            json!({
                "error": error,
                "error_description": description,
                "error_uri": "https://docs.github.com/apps/troubleshooting",
            })
        });
        let accepts = request.headers().get(ACCEPT);
        if accepts.is_some_and(|accepts| accepts == "application/json") {
            HttpResponse::Ok().json(answer)
        } else {
            let mut url = Url::parse("http://form/").unwrap();
            for (name, value) in answer.as_object().unwrap() {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                url.query_pairs_mut().append_pair(name, &value);
            }
            HttpResponse::Ok()
                .content_type("application/x-www-form-urlencoded; charset=utf-8")
                .body(url.query().unwrap().to_owned())
        }
    }

    fn exchange(
        &mut self,
        app: &FakeOauthApp,
        (code, verifier, redirect_uri): (&str, &str, &str),
        now: DateTime<Utc>,
    ) -> Result<Value, OauthProblem> {
        let codes = &mut self.oauth.codes;
        let known = codes
            .iter_mut()
            .find(|known| known.code == code && known.client_id == app.client_id)
            .filter(|known| !known.is_used && now < known.issued_at + CODE)
            .ok_or(BAD_CODE)?;
        known.is_used = true;
        let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        if known
            .challenge
            .as_ref()
            .is_some_and(|wanted| *wanted != proof)
        {
            return Err(BAD_CODE);
        }
        if !redirect_uri.is_empty() && redirect_uri != known.redirect_uri {
            return Err(MISMATCH);
        }
        let (user, scopes) = (known.user, known.scopes.clone());
        if !self
            .directory
            .person_by_id(user)
            .unwrap()
            .has_verified_email
        {
            return Err(UNVERIFIED);
        }
        let issued = self.issue(app, user, &scopes, now);
        self.limit_tokens(app, user, &scopes, now);
        Ok(issued)
    }

    /// Rotates a pair of tokens: both old ones end.
    fn refresh(
        &mut self,
        app: &FakeOauthApp,
        refresh: &str,
        now: DateTime<Utc>,
    ) -> Result<Value, OauthProblem> {
        let is_it = |known: &PersonToken| {
            known.client_id.as_deref() == Some(&app.client_id)
                && known
                    .refresh
                    .as_ref()
                    .is_some_and(|known| known.token == refresh)
        };
        let known = self.directory.tokens.iter().find(|known| is_it(known));
        let known = known.ok_or(BAD_REFRESH)?;
        let (user, scopes) = (known.user, known.scopes.clone().unwrap_or_default());
        self.end_tokens(is_it);
        Ok(self.issue(app, user, &scopes, now))
    }

    fn issue(
        &mut self,
        app: &FakeOauthApp,
        user: i64,
        scopes: &[String],
        now: DateTime<Utc>,
    ) -> Value {
        let prefix = if app.app_id.is_some() { "ghu_" } else { "gho_" };
        let token = self.directory.make(prefix, 36);
        let scope = scopes.join(",");
        let mut answer = json!({"access_token": token, "scope": scope, "token_type": "bearer"});
        let refresh = app.expires.then(|| {
            let refresh = self.directory.make("ghr_", 76);
            answer["expires_in"] = ACCESS.num_seconds().into();
            answer["refresh_token"] = refresh.clone().into();
            answer["refresh_token_expires_in"] = REFRESH.num_seconds().into();
            RefreshToken {
                token: refresh,
                expires_at: now + REFRESH,
            }
        });
        self.access.give(&token, Rights::Admin);
        self.directory.tokens.push(PersonToken {
            token,
            client_id: Some(app.client_id.clone()),
            user,
            scopes: Some(scopes.to_vec()),
            issued_at: now,
            expires_at: app.expires.then(|| now + ACCESS),
            refresh,
            sso: BTreeSet::new(),
        });
        answer
    }

    /// Ends the oldest token of the same person, application and scopes if there are more than ten,
    /// or were more than ten new ones within the hour.
    fn limit_tokens(
        &mut self,
        app: &FakeOauthApp,
        user: i64,
        scopes: &[String],
        now: DateTime<Utc>,
    ) {
        let entry = (user, app.client_id.clone(), scopes.join(","), now);
        self.oauth.issued.push(entry);
        let is_same = |token: &PersonToken| {
            token.user == user
                && token.client_id.as_deref() == Some(&app.client_id)
                && token.scopes.as_deref() == Some(scopes)
        };
        let same = self.directory.tokens.iter().filter(|token| is_same(token));
        let same: Vec<_> = same.map(|token| token.token.clone()).collect();
        let recent = self
            .oauth
            .issued
            .iter()
            .filter(|(person, client, list, at)| {
                *person == user
                    && *client == app.client_id
                    && *list == scopes.join(",")
                    && *at > now - TimeDelta::hours(1)
            });
        if same.len() > MAX_TOKENS || recent.count() > MAX_TOKENS && same.len() > 1 {
            self.end_tokens(|token| token.token == same[0]);
        }
    }

    /// Ends tokens of people, with their refresh tokens.
    pub(super) fn end_tokens(&mut self, ends: impl Fn(&PersonToken) -> bool) {
        let Self {
            directory, access, ..
        } = self;
        for token in directory.tokens.extract_if(.., |token| ends(token)) {
            access.revoke(&token.token);
        }
    }

    /// Ends what has expired. An expired token whose refresh token has not stays known by that.
    pub(super) fn end_expired(&mut self) {
        let now = self.now();
        let is_over = |token: &PersonToken| !token.is_valid_at(now);
        for token in self.directory.tokens.iter().filter(|token| is_over(token)) {
            self.access.revoke(&token.token);
        }
        let tokens = &mut self.directory.tokens;
        tokens.retain(|token| match &token.refresh {
            Some(refresh) => refresh.expires_at > now,
            None => !is_over(token),
        });
    }
}

/// Sends the browser to `uri` with `pairs` and the state it was sent with.
pub(super) fn redirect(uri: &str, pairs: &[(&str, &str)], state: Option<&str>) -> HttpResponse {
    let mut url = Url::parse(uri).unwrap();
    url.query_pairs_mut().extend_pairs(pairs);
    if let Some(state) = state {
        url.query_pairs_mut().append_pair("state", state);
    }
    HttpResponse::build(StatusCode::FOUND)
        .insert_header((LOCATION, url.as_str()))
        .finish()
}

/// Reads a form.
pub(super) fn form(body: &[u8]) -> Vec<(String, String)> {
    let mut url = Url::parse("http://form/").unwrap();
    url.set_query(Some(&String::from_utf8_lossy(body)));
    url.query_pairs().into_owned().collect()
}
