//! `/ws`: notifications over WebSocket.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, Session};
use chrono::Utc;
use metrics::{counter, gauge};
use rand::RngExt;
use serde::{Deserialize, Deserializer, Serialize, de};
use tallyhook_core::github::types::RepoId;
use tallyhook_github_client::hooks::HookOwner;
use tallyhook_store::EventId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use utoipa::{IntoParams, ToSchema};

use super::caller::{Caller, CallerCredential, CallerKind, KnownCaller};
use super::error::ApiError;
use super::input::QueryInput;
use super::{AccessRole, ApiState, TeamId, auth, rfc3339, routes, same_origin};
use crate::notify::{
    AddressedHint, FeedSubscription, HintFeed, HintSubscription, NotificationFeed,
    NotificationFrame, SubscriptionError,
};
use crate::telemetry::{WEBSOCKET_CLIENTS, WEBSOCKET_SLOW};
use crate::times::TimePoint;

/// The lifetime of a ticket.
const TICKET_LIFETIME: Duration = Duration::from_secs(30);
/// The most pings in a row that a client may leave unanswered.
const MAX_UNANSWERED: u32 = 2;
/// The time to send one frame, after which a client is too slow.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The time to send the close frame to it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Our own close code for an expired event of `?after=`; HTTP would answer 410.
const EVENT_EXPIRED: u16 = 4410;
/// Our own close code for a caller who is not in the team any more; HTTP would answer 403.
const LEFT_TEAM: u16 = 4403;

/// The WebSocket clients of one process.
pub struct WebSocketServer {
    feed: NotificationFeed,
    hints: Arc<HintFeed>,
    slots: Arc<Semaphore>,
    heartbeat: Duration,
}

impl WebSocketServer {
    /// Serves at most `clients` at a time. At each `heartbeat` a client is pinged and its token
    /// checked.
    pub fn new(
        (feed, hints): (NotificationFeed, Arc<HintFeed>),
        clients: u32,
        heartbeat: Duration,
    ) -> Self {
        Self {
            feed,
            hints,
            slots: Arc::new(Semaphore::new(clients as usize)),
            heartbeat,
        }
    }
}

/// The query of a WebSocket connection.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WsQuery {
    /// `owner/name`: only notifications of this repository.
    repo: Option<String>,
    /// The `event_id` of the last notification that was received: the missed ones are sent first.
    after: Option<String>,
    /// Replaces the token, for browsers; from `POST /api/ws-ticket`.
    ticket: Option<String>,
    /// The slug of the team, of several.
    #[param(example = "default")]
    team: Option<String>,
    /// With `1` there are hints of what changed, too: frames of the type `hint`.
    #[param(value_type = Option<u8>, minimum = 0, maximum = 1, example = 1)]
    hints: Option<HintChoice>,
    /// With `hints` those of what changed since this time are sent first.
    #[param(value_type = Option<String>, format = "date-time")]
    since: Option<TimePoint>,
}

/// A choice of hints, `1` or `0`.
#[derive(Clone, Copy, Debug)]
struct HintChoice(bool);

impl<'de> Deserialize<'de> for HintChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            0 => Ok(Self(false)),
            1 => Ok(Self(true)),
            _ => Err(de::Error::custom("expected 1 or 0")),
        }
    }
}

/// A ticket that opens one WebSocket.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Ticket)]
pub struct WsTicket {
    pub ticket: String,
    /// RFC 3339.
    #[schema(format = "date-time")]
    pub expires_at: String,
}

/// Creates a ticket for `/ws?ticket=`, for one use within 30 seconds: a browser cannot send a token
/// there.
#[utoipa::path(
    tag = "notifications", operation_id = "ws_ticket", security(("token" = [])),
    responses((status = 201, body = WsTicket))
)]
#[post("/ws-ticket")]
pub(super) async fn create_ticket(
    api: web::Data<ApiState>,
    caller: web::ReqData<Caller>,
) -> Result<HttpResponse, ApiError> {
    let ticket = auth::random_text();
    let now = Utc::now();
    let expires = now + TICKET_LIFETIME;
    api.store
        .issue_ticket(
            &auth::hash(&ticket),
            (caller.team, caller.known.credential.digest()),
            now,
            expires,
        )
        .await?;
    Ok(HttpResponse::Created().json(WsTicket {
        ticket,
        expires_at: rfc3339(expires),
    }))
}

/// Opens a WebSocket of notifications, each the JSON of one change, and with `hints=1` of hints, which say
/// what to read again: `{"type":"hint","of":"pr","repo":"acme/web","number":7,"at":"2026-03-01T09:00:00.000Z"}`.
/// `of` is `pr`, `repo`, `sync_run`, `inbox`, `task`, `channel` or `notification`; a null stands for any. Requires a token, a session, or
/// a ticket of one that is still valid.
///
/// It is closed with code 1013 if the client is too slow, with 1001 if the server stops, with 1008
/// within half a minute after the token was revoked or the session ended, with 4403 after the caller left the
/// team, and with 4410 if the event of `after` has expired.
#[utoipa::path(
    tag = "notifications", operation_id = "ws", security(("token" = []), ()), params(WsQuery),
    responses(
        (status = 101, description = "Each text frame has this schema",
            body = crate::notify::Notification),
        (status = 400, body = super::error::ApiErrorBody),
        (status = 401, body = super::error::ApiErrorBody),
        (status = 403, description = "The `Origin` is another host",
            body = super::error::ApiErrorBody),
        (status = 503, description = "The limit of clients is reached",
            body = super::error::ApiErrorBody),
    )
)]
#[get("/ws")]
pub(super) async fn connect(
    api: web::Data<ApiState>,
    sockets: web::Data<WebSocketServer>,
    request: HttpRequest,
    QueryInput(query): QueryInput<WsQuery>,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let WsQuery {
        repo,
        after,
        ticket,
        team,
        hints,
        since,
    } = query;
    routes::check_query(&request)?;
    // A repository that is unknown so far may be one later; another form never is.
    let is_name = |repo: &String| HookOwner::repository(repo).is_ok();
    if repo.as_ref().is_some_and(|repo| !is_name(repo)) {
        let message = "`repo` must be owner/name, as in acme-corp/api-server";
        return Err(ApiError::BadRequest(message.to_owned()));
    }
    // A ticket is used up by its check, so the checks that need no ticket are made first.
    same_origin::refuse_foreign(&request)?;
    let after: Option<EventId> = after
        .map(|after| after.parse())
        .transpose()
        .map_err(|()| invalid_after())?;
    let (response, session, messages) = actix_ws::handle(&request, body)
        .map_err(|error| ApiError::BadRequest(format!("this path is a WebSocket: {error}")))?;
    // The slot is acquired after the check of the token, so that unauthorized clients use up none.
    if sockets.slots.available_permits() == 0 {
        return Err(too_many());
    }
    let caller = authorize(&api, &request, ticket.as_deref(), team.as_deref()).await?;
    let store = api.store.of_team(caller.team);
    let permit = sockets
        .slots
        .clone()
        .try_acquire_owned()
        .map_err(|_| too_many())?;
    let slot = ClientSlot::new(permit);
    let repo = match repo {
        Some(name) => Some(WantedRepository {
            id: store.repository_id(&name).await?,
            name,
        }),
        None => None,
    };
    let frames = subscribe(&sockets.feed, caller.team, after).await?;
    let hints = match hints {
        Some(HintChoice(true)) => {
            let since = since.map(|TimePoint(since)| since.to_utc());
            Some(sockets.hints.subscribe(since).await?)
        }
        _ => None,
    };
    // Ends with its connection or with the feed, and the HTTP server waits for it at shutdown.
    actix_web::rt::spawn(async move {
        let reason = match frames {
            Ok(frames) => {
                let session = session.clone();
                WsClient {
                    session,
                    messages,
                    frames,
                    hints,
                    repo,
                    api,
                    caller,
                }
                .serve(sockets.heartbeat)
                .await
            }
            Err(reason) => Some(reason),
        };
        // Closing may fail: the client is gone, or it reads nothing.
        drop(timeout(CLOSE_TIMEOUT, session.close(reason)).await);
        drop(slot);
    });
    Ok(response)
}

/// Subscribes a client. The inner error closes its socket: a browser does not see the status of a
/// failed handshake, but it sees the close code.
async fn subscribe(
    feed: &NotificationFeed,
    team: TeamId,
    after: Option<EventId>,
) -> Result<Result<FeedSubscription, CloseReason>, ApiError> {
    match feed.subscribe(team, after).await {
        Ok(frames) => Ok(Ok(frames)),
        Err(SubscriptionError::Store(error)) => Err(error.into()),
        Err(SubscriptionError::Stopping) => {
            Err(ApiError::Busy("this process is stopping; try again"))
        }
        Err(SubscriptionError::Expired) => Ok(Err(reason(
            CloseCode::Other(EVENT_EXPIRED),
            "the event of `after` has expired",
        ))),
    }
}

fn too_many() -> ApiError {
    ApiError::Busy("the limit of /ws clients is reached; try again later")
}

fn invalid_after() -> ApiError {
    ApiError::BadRequest("`after` must be the `event_id` of a notification".to_owned())
}

/// Returns the caller of the request in its team, or the one that its ticket was issued to.
async fn authorize(
    api: &ApiState,
    request: &HttpRequest,
    ticket: Option<&str>,
    team: Option<&str>,
) -> Result<Caller, ApiError> {
    let Some(ticket) = ticket.filter(|_| auth::bearer(request.headers()).is_none()) else {
        let caller = KnownCaller::of_request(api, request).await?;
        if caller.kind == CallerKind::Session {
            // A browser sends the cookie whichever page opens the socket.
            same_origin::refuse_unstated(request)?;
        }
        return match team {
            Some(team) => caller.in_team_of_slug(api, team).await,
            None => caller.in_team(api, request).await,
        };
    };
    let refuse = || api.wrong_tokens.refuse(auth::peer(request), true);
    let ticket = auth::hash(ticket);
    let redeemed = api.store.redeem_ticket(&ticket, Utc::now()).await?;
    let (issued_for, digest) = redeemed.ok_or_else(refuse)?;
    for credential in [
        CallerCredential::Token(digest),
        CallerCredential::Session(digest),
    ] {
        let Some(known) = KnownCaller::of(api, &credential).await? else {
            continue;
        };
        let caller = known.in_team_of_id(api, issued_for).await?;
        let caller = caller.filter(|caller| team.is_none_or(|team| caller.team_name == team));
        return caller.ok_or(ApiError::NotFound("team"));
    }
    Err(refuse())
}

/// An acquired slot for a client.
struct ClientSlot {
    _permit: OwnedSemaphorePermit,
}

impl ClientSlot {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        gauge!(WEBSOCKET_CLIENTS).increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        gauge!(WEBSOCKET_CLIENTS).decrement(1.0);
    }
}

/// A connected client.
struct WsClient {
    session: Session,
    messages: MessageStream,
    frames: FeedSubscription,
    hints: Option<HintSubscription>,
    repo: Option<WantedRepository>,
    api: web::Data<ApiState>,
    /// Also if it connected with a ticket.
    caller: Caller,
}

/// The close frame that ends a connection; `None` if the client is gone.
type CloseWith = Option<CloseReason>;

impl WsClient {
    /// Sends the notifications that match the query until either side closes.
    async fn serve(mut self, every: Duration) -> CloseWith {
        // Clients that connect together, as after a restart, are not pinged together.
        let first = every.mul_f64(rand::rng().random_range(0.5..1.0));
        let mut heartbeat = interval_at(Instant::now() + first, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings = PingMonitor::default();
        loop {
            let done = tokio::select! {
                frame = self.frames.next() => self.send(frame).await,
                hint = next_hint(&mut self.hints) => self.send_hint(&hint).await,
                message = self.messages.recv() => match message {
                    Some(Ok(Message::Ping(bytes))) => {
                        pings.answered();
                        in_time(self.session.pong(&bytes)).await
                    }
                    Some(Ok(Message::Close(reason))) => Err(reason),
                    Some(Ok(_)) => {
                        pings.answered();
                        Ok(())
                    }
                    Some(Err(_)) | None => Err(None),
                },
                _ = heartbeat.tick() => match pings.should_ping() {
                    false => Err(reason(CloseCode::Away, "no answer to pings").into()),
                    true => match self.refusal().await {
                        None => in_time(self.session.ping(b"")).await,
                        Some(refusal) => Err(refusal.into()),
                    },
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Returns the reason to close, unless its token or session is still in force and it is still in
    /// the team. While the database fails nothing can be sent anyway, so the client stays.
    async fn refusal(&self) -> CloseWith {
        let Ok(known) = KnownCaller::of(&self.api, &self.caller.known.credential).await else {
            return None;
        };
        let Some(known) = known else {
            let text = "the token is not valid any more";
            return Some(reason(CloseCode::Policy, text));
        };
        match known.in_team_of_id(&self.api, self.caller.team).await {
            Ok(None) => {
                let text = "the caller has left the team";
                Some(reason(CloseCode::Other(LEFT_TEAM), text))
            }
            Ok(Some(_)) | Err(_) => None,
        }
    }

    async fn send(
        &mut self,
        frame: Result<Arc<NotificationFrame>, SubscriptionError>,
    ) -> Result<(), CloseWith> {
        match frame {
            Ok(frame) => match frame.text_for(self.caller.team) {
                Some(text) if self.wants(&frame) => in_time(self.session.text(text)).await,
                _ => Ok(()),
            },
            Err(SubscriptionError::Stopping | SubscriptionError::Expired) => {
                Err(Some(reason(CloseCode::Away, "this server is stopping")))
            }
            Err(SubscriptionError::Store(error)) => {
                tracing::error!(%error, "cannot read the events that a /ws client missed: {error}");
                Err(Some(reason(
                    CloseCode::Error,
                    "the database is not available; try again",
                )))
            }
        }
    }

    async fn send_hint(&mut self, hint: &AddressedHint) -> Result<(), CloseWith> {
        if !hint.is_for(self.caller.team, self.caller.may(AccessRole::Operator)) {
            return Ok(());
        }
        let is_other = |wanted: &WantedRepository| {
            let name = hint.frame.repo.as_deref();
            name.is_some_and(|name| !wanted.name.eq_ignore_ascii_case(name))
        };
        if self.repo.as_ref().is_some_and(is_other) {
            return Ok(());
        }
        // Texts and numbers always have a JSON form.
        let text = serde_json::to_string(&hint.frame).unwrap_or_default();
        in_time(self.session.text(text)).await
    }

    fn wants(&self, frame: &NotificationFrame) -> bool {
        frame.is_for_clients && self.repo.as_ref().is_none_or(|repo| repo.is_of(frame))
    }
}

/// Waits for the next hint; forever if there are none any more, or the client wants none.
async fn next_hint(hints: &mut Option<HintSubscription>) -> Arc<AddressedHint> {
    if let Some(subscription) = hints
        && let Some(hint) = subscription.next().await
    {
        return hint;
    }
    std::future::pending().await
}

/// The repository of a client's query.
struct WantedRepository {
    name: String,
    /// `None` if none of that name was known when the client connected.
    id: Option<RepoId>,
}

impl WantedRepository {
    /// Returns true for a notification of this repository, also if it was renamed.
    fn is_of(&self, frame: &NotificationFrame) -> bool {
        let is_named = |of: &String| self.name.eq_ignore_ascii_case(of);
        (self.id.is_some() && self.id == frame.repo_id) || frame.repo.as_ref().is_some_and(is_named)
    }
}

/// Sends a frame within [`SEND_TIMEOUT`]. A slow client is closed, since others need its slot; it
/// can reconnect with `after` and misses nothing.
async fn in_time(
    sent: impl Future<Output = Result<(), actix_ws::Closed>>,
) -> Result<(), CloseWith> {
    match timeout(SEND_TIMEOUT, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(actix_ws::Closed)) => Err(None),
        Err(_) => {
            counter!(WEBSOCKET_SLOW).increment(1);
            Err(Some(reason(
                CloseCode::Again,
                "too slow: reconnect with `after` to miss nothing",
            )))
        }
    }
}

fn reason(code: CloseCode, description: &str) -> CloseReason {
    CloseReason {
        code,
        description: Some(description.to_owned()),
    }
}

/// Counts the pings in a row that a client left unanswered.
#[derive(Default)]
struct PingMonitor {
    unanswered: u32,
}

impl PingMonitor {
    fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// Counts the next ping; false if the client counts as gone.
    fn should_ping(&mut self) -> bool {
        self.unanswered += 1;
        self.unanswered <= MAX_UNANSWERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_gone_after_two_unanswered_pings() {
        let mut pings = PingMonitor::default();
        assert!(pings.should_ping() && pings.should_ping());
        assert!(!pings.should_ping());
        pings.answered();
        assert!(pings.should_ping() && pings.should_ping() && !pings.should_ping());
    }
}
