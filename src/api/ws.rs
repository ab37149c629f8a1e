//! `/ws`: notifications as they happen.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{HOST, HeaderName, ORIGIN};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, Session};
use chrono::Utc;
use metrics::{counter, gauge};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tallyhook_store::{EventId, TokenHash};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use super::{Api, auth, rfc3339};
use crate::notify::{Closed, Feed, Frame, Subscription};
use crate::telemetry::{WEBSOCKET_CLIENTS, WEBSOCKET_SLOW};

/// How long a ticket counts.
const TICKET: Duration = Duration::from_secs(30);
/// So many times a client may be asked whether it is there, and give no answer.
const MISSES: u32 = 2;
/// A client that does not take a frame for so long is too slow.
const SLOW: Duration = Duration::from_secs(5);
/// And for so long it may still make room to hear why it is dropped.
const PARTING: Duration = Duration::from_secs(5);
/// Of our own: the event of `?after=` is not there any more. HTTP says it with 410.
const FORGOTTEN: u16 = 4410;

/// The clients of one process.
pub struct Sockets {
    feed: Feed,
    places: Arc<Semaphore>,
    heartbeat: Duration,
}

impl Sockets {
    /// Of at most `clients` at once. With each `heartbeat` it is asked whether they are there, and whether they may be.
    pub fn new(feed: Feed, clients: u32, heartbeat: Duration) -> Self {
        Self {
            feed,
            places: Arc::new(Semaphore::new(clients as usize)),
            heartbeat,
        }
    }
}

/// What a client wants to hear.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// `owner/name`: only what happens there.
    repo: Option<String>,
    /// The `event_id` of the last notification that was received: first comes what was missed since.
    after: Option<String>,
    /// In place of a token, for browsers: from `POST /api/ws-ticket`.
    ticket: Option<String>,
}

/// What opens a WebSocket once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    pub ticket: String,
    /// RFC 3339.
    #[schema(format = "date-time")]
    pub expires_at: String,
}

/// A ticket for `/ws?ticket=`, for one use within 30 seconds: a browser cannot send a token there.
#[utoipa::path(
    post, path = "/api/ws-ticket", tag = "notifications", operation_id = "ws_ticket", security(("token" = [])),
    responses((status = 201, body = Ticket))
)]
pub(super) async fn ticket(
    api: web::Data<Api>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let token = auth::bearer(request.headers())
        .map(auth::hash)
        .ok_or(ApiError::Unauthorized)?;
    let bits: [u8; 32] = rand::rng().random();
    let ticket = hex::encode(bits);
    let now = Utc::now();
    let expires = now + TICKET;
    api.store
        .issue_ticket(&auth::hash(&ticket), &token, now, expires)
        .await?;
    Ok(HttpResponse::Created().json(Ticket {
        ticket,
        expires_at: rfc3339(expires),
    }))
}

/// A WebSocket of notifications, each the JSON of one change. Wants a token, or a ticket of one that is still in force.
///
/// It is closed with code 1013 if the client is too slow, with 1001 if the server stops, with 1008 within half a minute
/// after the token was revoked, and with 4410 if what came after `after` is not known any more.
#[utoipa::path(
    get, path = "/ws", tag = "notifications", operation_id = "ws", security(("token" = []), ()), params(Wanted),
    responses(
        (status = 101, description = "The frames are texts of this shape", body = crate::notify::Notification),
        (status = 400, body = super::error::ErrorBody),
        (status = 401, body = super::error::ErrorBody),
        (status = 403, description = "The `Origin` is of another host", body = super::error::ErrorBody),
        (status = 503, description = "There are too many clients", body = super::error::ErrorBody),
    )
)]
pub(super) async fn connect(
    api: web::Data<Api>,
    sockets: web::Data<Sockets>,
    request: HttpRequest,
    query: web::Query<Wanted>,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let Wanted {
        repo,
        after,
        ticket,
    } = query.into_inner();
    // A ticket counts once: what refuses the request whatever it has is looked at before.
    refuse_foreign(&request)?;
    let after: Option<EventId> = after
        .map(|after| after.parse())
        .transpose()
        .map_err(|()| no_event())?;
    let (response, session, messages) = actix_ws::handle(&request, body)
        .map_err(|error| ApiError::BadRequest(format!("this path is a WebSocket: {error}")))?;
    // A place is not taken yet, so that they are not full of those who may not come in.
    if sockets.places.available_permits() == 0 {
        return Err(too_many());
    }
    let token = authorize(&api, &request, ticket.as_deref()).await?;
    let permit = sockets
        .places
        .clone()
        .try_acquire_owned()
        .map_err(|_| too_many())?;
    let place = Place::take(permit);
    let frames = match sockets.feed.subscribe(after).await {
        Ok(frames) => Ok(frames),
        Err(Closed::Store(error)) => return Err(error.into()),
        Err(Closed::Stopping) => return Err(ApiError::Busy("this process is stopping; try again")),
        // A browser is not shown the status of an answer, but it is shown why its socket was closed.
        Err(Closed::Forgotten) => Err(reason(
            CloseCode::Other(FORGOTTEN),
            "the event of `after` is not known any more",
        )),
    };
    // Ends with its connection or with the feed, and the server waits for it when it stops.
    actix_web::rt::spawn(async move {
        let reason = match frames {
            Ok(frames) => {
                let session = session.clone();
                Client {
                    session,
                    messages,
                    frames,
                    repo,
                    api,
                    token,
                }
                .serve(sockets.heartbeat)
                .await
            }
            Err(reason) => Some(reason),
        };
        // A client that is gone needs no goodbye, and one that takes nothing cannot be told.
        drop(timeout(PARTING, session.close(reason)).await);
        drop(place);
    });
    Ok(response)
}

fn too_many() -> ApiError {
    ApiError::Busy("there are too many clients of /ws; try again later")
}

fn no_event() -> ApiError {
    ApiError::BadRequest("`after` must be the `event_id` of a notification".to_owned())
}

/// Pages of other sites may not listen with what a browser knows of ours.
fn refuse_foreign(request: &HttpRequest) -> Result<(), ApiError> {
    let header = |name: HeaderName| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let Some(origin) = header(ORIGIN) else {
        return Ok(());
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    match (authority, header(HOST)) {
        (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(ApiError::Forbidden(
            "the `Origin` of the request is another host than this one",
        )),
    }
}

/// The token that is in force, or whose the ticket is.
async fn authorize(
    api: &Api,
    request: &HttpRequest,
    ticket: Option<&str>,
) -> Result<TokenHash, ApiError> {
    let token = match (auth::bearer(request.headers()), ticket) {
        (Some(token), _) => auth::hash(token),
        (None, Some(ticket)) => {
            let token = api
                .store
                .redeem_ticket(&auth::hash(ticket), Utc::now())
                .await?;
            token.ok_or(ApiError::Unauthorized)?
        }
        (None, None) => return Err(ApiError::Unauthorized),
    };
    if auth::is_valid(api, &token).await? {
        Ok(token)
    } else {
        Err(ApiError::Unauthorized)
    }
}

/// One of the places for clients, while it is taken.
struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(permit: OwnedSemaphorePermit) -> Self {
        gauge!(WEBSOCKET_CLIENTS).increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!(WEBSOCKET_CLIENTS).decrement(1.0);
    }
}

struct Client {
    session: Session,
    messages: MessageStream,
    frames: Subscription,
    repo: Option<String>,
    api: web::Data<Api>,
    /// What it came in with, itself or by a ticket.
    token: TokenHash,
}

/// Why one stops talking to a client: what it is told, unless it is gone.
type End = Option<CloseReason>;

impl Client {
    /// Tells what the client wants to hear, until one of both has enough.
    async fn serve(mut self, every: Duration) -> End {
        // Those who came at once, as after a restart, are not asked at once.
        let first = every.mul_f64(rand::rng().random_range(0.5..1.0));
        let mut heartbeat = interval_at(Instant::now() + first, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulse = Pulse::default();
        loop {
            let done = tokio::select! {
                frame = self.frames.next() => self.tell(frame).await,
                message = self.messages.recv() => match message {
                    Some(Ok(Message::Ping(bytes))) => {
                        pulse.felt();
                        in_time(self.session.pong(&bytes)).await
                    }
                    Some(Ok(Message::Close(reason))) => Err(reason),
                    Some(Ok(_)) => {
                        pulse.felt();
                        Ok(())
                    }
                    Some(Err(_)) | None => Err(None),
                },
                _ = heartbeat.tick() => match pulse.beat() {
                    false => Err(reason(CloseCode::Away, "nothing was heard of you").into()),
                    true if self.is_welcome().await => in_time(self.session.ping(b"")).await,
                    true => Err(reason(CloseCode::Policy, "the token is not in force any more").into()),
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Whether its token is still in force. While the database does not answer there is nothing to be told either.
    async fn is_welcome(&self) -> bool {
        auth::is_valid(&self.api, &self.token).await.unwrap_or(true)
    }

    async fn tell(&mut self, frame: Result<Arc<Frame>, Closed>) -> Result<(), End> {
        match frame {
            Ok(frame) if self.wants(&frame) => {
                in_time(self.session.text(frame.text.as_str())).await
            }
            Ok(_) => Ok(()),
            Err(Closed::Stopping | Closed::Forgotten) => {
                Err(Some(reason(CloseCode::Away, "this server is stopping")))
            }
            Err(Closed::Store(error)) => {
                tracing::error!(%error, "a client of /ws cannot be told what it missed");
                Err(Some(reason(
                    CloseCode::Error,
                    "the database does not answer; try again",
                )))
            }
        }
    }

    fn wants(&self, frame: &Frame) -> bool {
        let is_of = |repo: &String| {
            frame
                .repo
                .as_ref()
                .is_some_and(|of| repo.eq_ignore_ascii_case(of))
        };
        self.repo.as_ref().is_none_or(is_of)
    }
}

/// Sends something, but does not wait for a slow client: others want its place, and it can come back for the rest.
async fn in_time(sent: impl Future<Output = Result<(), actix_ws::Closed>>) -> Result<(), End> {
    match timeout(SLOW, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(actix_ws::Closed)) => Err(None),
        Err(_) => {
            counter!(WEBSOCKET_SLOW).increment(1);
            Err(Some(reason(
                CloseCode::Again,
                "too slow: come back with `after`, and miss nothing",
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

/// Whether a client is there.
#[derive(Default)]
struct Pulse {
    unanswered: u32,
}

impl Pulse {
    fn felt(&mut self) {
        self.unanswered = 0;
    }

    /// Whether to ask once more.
    fn beat(&mut self) -> bool {
        self.unanswered += 1;
        self.unanswered <= MISSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_leaves_two_questions_unanswered_is_gone() {
        let mut pulse = Pulse::default();
        assert!(pulse.beat() && pulse.beat());
        assert!(!pulse.beat());
        pulse.felt();
        assert!(pulse.beat() && pulse.beat() && !pulse.beat());
    }

    #[test]
    fn only_pages_of_this_host_may_listen() {
        for (origin, host, is_ours) in [
            (None, Some("t.example.com"), true),
            (Some("https://t.example.com"), Some("t.example.com"), true),
            (Some("http://LOCALHOST:8080"), Some("localhost:8080"), true),
            (Some("http://localhost:8081"), Some("localhost:8080"), false),
            (
                Some("https://t.example.com.evil.example"),
                Some("t.example.com"),
                false,
            ),
            (Some("https://evil.example"), Some("t.example.com"), false),
            (Some("t.example.com"), Some("t.example.com"), false),
            (Some("null"), Some("t.example.com"), false),
            (Some("https://t.example.com"), None, false),
        ] {
            let headers = [
                origin.map(|origin| (ORIGIN, origin)),
                host.map(|host| (HOST, host)),
            ];
            let request = headers.into_iter().flatten().fold(
                actix_web::test::TestRequest::default(),
                |request, header| request.insert_header(header),
            );
            assert_eq!(
                refuse_foreign(&request.to_http_request()).is_ok(),
                is_ours,
                "{origin:?} at {host:?}"
            );
        }
    }
}
