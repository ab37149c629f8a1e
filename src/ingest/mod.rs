//! The webhook endpoint: verify, bound, store, answer.
//!
//! GitHub is answered from the database's commit. No body is parsed before its signature holds, and
//! reading an unverified request is bounded in size, in time and over all requests together.

mod body;
mod headers;
mod origin;
mod wrong_signatures;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::Utc;
use metrics::counter;
use serde::Serialize;
use tallyhook_core::delivery::{DeliveryId, Lane};
use tallyhook_core::domain::pull_request::Source;
use tallyhook_core::event::{self, Event};
use tallyhook_core::github::host::GithubHost;
use tallyhook_core::github::signature::Signature;
use tallyhook_queue::{Permit, Publication, Queue, REPUBLISH_AFTER};
use tallyhook_store::{AcceptOutcome, NewDelivery, NewState, Store};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use self::body::{BodyBudget, BodyInMemory, BudgetShare};
use self::headers::promised_bytes;
pub use self::headers::{DeliveryHeaders, media_type, signature};
use self::origin::{DeliveryOrigin, InstallationHost};
use self::wrong_signatures::WrongSignatures;
use crate::config::WebhookSecrets;
use crate::incoming::{Classified, IncomingDelivery};
use crate::telemetry::{
    DELIVERIES, DUPLICATES, SIGNATURE_FAILURES, count_refusal, metric_label, record_dead_letter,
};

const MIB: usize = 1024 * 1024;

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub struct IngestLimits {
    /// GitHub sends no payload over 25 MB.
    pub json_bytes: usize,
    /// The same, with every byte escaped.
    pub form_bytes: usize,
    /// Bodies in memory over all requests.
    pub in_flight_bytes: usize,
    /// The same besides, for bodies of up to 1 MiB.
    pub small_reserve_bytes: usize,
    /// The deadline of the body.
    pub body_time: Duration,
    /// The deadline of the answer; GitHub waits for 10 s.
    pub answer_time: Duration,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            json_bytes: 25 * MIB,
            form_bytes: 75 * MIB,
            // One form of the largest kind fits, and four thousand payloads of the usual size.
            in_flight_bytes: 80 * MIB,
            small_reserve_bytes: 16 * MIB,
            body_time: Duration::from_secs(6),
            answer_time: Duration::from_secs(8),
        }
    }
}

/// The size from which on a body is hashed, parsed and compressed on its own thread, not between
/// other requests.
const LARGE: usize = 256 * 1024;

/// The state of the webhook endpoint.
pub struct Ingest {
    pub secrets: watch::Receiver<WebhookSecrets>,
    pub store: Store,
    pub queue: Arc<Queue>,
    pub limits: IngestLimits,
    host: InstallationHost,
    budget: Arc<BodyBudget>,
    /// One large body at a time: parsing and compressing one takes its size again.
    large: Arc<Semaphore>,
    wrong_signatures: WrongSignatures,
}

impl Ingest {
    /// Takes deliveries of the GitHub `host`; of the one that the first of them is of, if that is
    /// not known yet.
    pub fn new(
        secrets: watch::Receiver<WebhookSecrets>,
        store: Store,
        queue: Arc<Queue>,
        limits: IngestLimits,
        host: Option<GithubHost>,
    ) -> Self {
        Self {
            secrets,
            store,
            queue,
            limits,
            host: InstallationHost::new(host),
            budget: Arc::default(),
            large: Arc::new(Semaphore::new(1)),
            wrong_signatures: WrongSignatures::default(),
        }
    }
}

/// The answer to a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Answer)]
pub struct WebhookAnswer {
    /// `accepted`, `duplicate`, `requeued`, `ignored` or `pong`.
    #[schema(example = "accepted")]
    pub status: &'static str,
    /// The `X-GitHub-Delivery` of the request.
    pub delivery: String,
    /// The reason why it is stored as a dead letter; absent if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}

/// The reason why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum WebhookRefusal {
    Header(&'static str),
    NotJson,
    Signature(&'static str),
    /// Of another GitHub than the one of this installation, or of none; with the answer.
    OtherHost(String),
    TooLarge,
    MediaType,
    TooSlow,
    Unavailable,
    /// The memory for bodies was short, and this one the slowest.
    Displaced,
}

impl WebhookRefusal {
    /// Returns status, code and message of the answer.
    fn parts(&self) -> (StatusCode, &'static str, &str) {
        match self {
            Self::Header(what) => (StatusCode::BAD_REQUEST, "bad_header", *what),
            Self::OtherHost(what) => (StatusCode::BAD_REQUEST, "other_host", what),
            Self::NotJson => (StatusCode::BAD_REQUEST, "not_json", "the body is not JSON"),
            Self::Signature(_) => (
                StatusCode::UNAUTHORIZED,
                "bad_signature",
                "X-Hub-Signature-256 is missing or not made with this server's secret",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "the body is larger than GitHub's payloads",
            ),
            Self::MediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "expected application/json or application/x-www-form-urlencoded, without \
                 Content-Encoding",
            ),
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "too_slow",
                "the body did not arrive in time",
            ),
            Self::Unavailable | Self::Displaced => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "cannot be stored now; send it again",
            ),
        }
    }

    fn count(&self) {
        count_refusal(match self {
            Self::Displaced => "displaced",
            _ => self.parts().1,
        });
        if let Self::Signature(reason) = self {
            counter!(SIGNATURE_FAILURES, "reason" => *reason).increment(1);
        }
    }

    fn response(&self) -> HttpResponse {
        let (status, code, message) = self.parts();
        let mut response = HttpResponse::build(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((RETRY_AFTER, "30"));
        }
        response.json(serde_json::json!({"error": {"code": code, "message": message}}))
    }
}

/// `POST /webhooks/github`
#[utoipa::path(
    post, path = "/webhooks/github", tag = "webhooks", operation_id = "receive_webhook",
    params(
        ("X-GitHub-Event" = String, Header, description = "GitHub's name of the event"),
        ("X-GitHub-Delivery" = String, Header, description = "GitHub's id of the delivery"),
        ("X-Hub-Signature-256" = String, Header,
            description = "sha256= and the HMAC of the body in hexadecimal"),
    ),
    request_body(content = serde_json::Value,
        description = "GitHub's payload, as JSON or as a form with the field payload"),
    responses(
        (status = 202, description = "stored durably, or known, or not used here",
            body = WebhookAnswer),
        (status = 200, description = "ping", body = WebhookAnswer),
        (status = 400, description = "a header is missing, the body is not JSON, or the delivery is \
                                      of another GitHub than the one of this installation"),
        (status = 401, description = "the signature is missing or wrong"),
        (status = 408, description = "the body did not arrive in time"),
        (status = 413, description = "the body is too large"),
        (status = 415, description = "neither JSON nor a form, or compressed"),
        (status = 503, description = "cannot be stored now"),
    )
)]
pub async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    ingest: web::Data<Ingest>,
) -> HttpResponse {
    let started = Instant::now();
    let ingest = ingest.into_inner();
    match handle(&request, payload, &ingest, started).await {
        Ok(answer) => {
            let status = if answer.status == "pong" {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            };
            HttpResponse::build(status).json(answer)
        }
        Err(refusal) => {
            refusal.count();
            if let WebhookRefusal::Signature(reason) = refusal {
                ingest.wrong_signatures.log(reason, &request);
            }
            refusal.response()
        }
    }
}

/// Answers any other method than POST, such as a browser's GET.
pub async fn explain(request: HttpRequest) -> HttpResponse {
    let status = match *request.method() {
        Method::OPTIONS => StatusCode::NO_CONTENT,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = HttpResponse::build(status);
    response.insert_header((ALLOW, "POST"));
    if status == StatusCode::NO_CONTENT {
        return response.finish();
    }
    let message = "this address receives GitHub's webhooks by POST: enter it as the payload URL of a \
                   webhook at GitHub; the data is below /api";
    let error = serde_json::json!({"code": "method_not_allowed", "message": message});
    response.json(serde_json::json!({"error": error}))
}

async fn handle(
    request: &HttpRequest,
    payload: web::Payload,
    ingest: &Arc<Ingest>,
    started: Instant,
) -> Result<WebhookAnswer, WebhookRefusal> {
    let form = media_type(request.headers())?;
    let signature = signature(request.headers())?;
    let headers = DeliveryHeaders::read(request.headers());
    let origin = DeliveryOrigin::read(request.headers());
    let cap = if form {
        ingest.limits.form_bytes
    } else {
        ingest.limits.json_bytes
    };
    let promised = promised_bytes(request.headers());
    let body = BodyInMemory::read(
        payload,
        (promised, cap),
        (&ingest.budget, &ingest.limits),
        started,
    )
    .await?;
    tallyhook_core::crash_point::reached("ingest.body_read");

    let deadline = started + ingest.limits.answer_time;
    let verify = {
        let ingest = ingest.clone();
        move |bytes: &[u8]| prepare(&ingest, bytes, form, &signature, (headers, origin))
    };
    let (prepared, share) = prepare_in_turn(ingest, body, verify, deadline).await?;
    match prepared {
        PreparedBody::Ping(delivery) => Ok(WebhookAnswer {
            status: "pong",
            delivery,
            dead_letter: None,
        }),
        PreparedBody::Unused(delivery) => Ok(WebhookAnswer {
            status: "ignored",
            delivery,
            dead_letter: None,
        }),
        PreparedBody::Delivery(delivery, event, host) => {
            // In a task of its own: even if the client disconnects, the delivery is stored and
            // published, and its memory counts until then.
            let ingest = ingest.clone();
            let stored = tokio::spawn(async move {
                let _share = share;
                if let Some(host) = host {
                    // Boxed: only the first delivery needs it, and each would copy its large state.
                    Box::pin(ingest.host.adopt(&host, &ingest.store)).await?;
                }
                store(&ingest, *delivery, event.as_deref()).await
            });
            let stored = timeout_at(deadline, stored)
                .await
                .map_err(|_| WebhookRefusal::Unavailable)?;
            stored.map_err(|_| WebhookRefusal::Unavailable)?
        }
    }
}

/// Verifies and classifies a body with `prepare`; a large one on its own thread, after those before
/// it.
async fn prepare_in_turn(
    ingest: &Ingest,
    body: BodyInMemory,
    prepare: impl FnOnce(&[u8]) -> Result<PreparedBody, WebhookRefusal> + Send + 'static,
    deadline: Instant,
) -> Result<(PreparedBody, BudgetShare), WebhookRefusal> {
    let is_large = body.bytes.len() > LARGE;
    let work = move || {
        // The body is moved in here, so that its share of the budget is released after its last
        // use, even if the request was dropped. The compressed body keeps a smaller share until it
        // is stored.
        let BodyInMemory { bytes, mut share } = body;
        let prepared = prepare(&bytes)?;
        drop(bytes);
        share.shrink(prepared.bytes());
        Ok((prepared, share))
    };
    if !is_large {
        return work();
    }
    let turn = timeout_at(deadline, ingest.large.clone().acquire_owned())
        .await
        .map_err(|_| WebhookRefusal::Unavailable)?
        .map_err(|_| WebhookRefusal::Unavailable)?;
    // The permit is released with the end of the work, even if the request was dropped.
    let work = move || {
        let _turn = turn;
        work()
    };
    timeout_at(deadline, web::block(work))
        .await
        .map_err(|_| WebhookRefusal::Unavailable)?
        .map_err(|_| WebhookRefusal::Unavailable)?
}

/// A verified body after classification.
enum PreparedBody {
    Ping(String),
    Unused(String),
    /// The row, with its event if the queue carries events and the body is not large, and the
    /// GitHub that it is of if that is the first to be seen.
    Delivery(Box<NewDelivery>, Option<Box<Event>>, Option<GithubHost>),
}

impl PreparedBody {
    /// Returns the bytes of the body that are still in memory.
    fn bytes(&self) -> usize {
        match self {
            Self::Ping(_) | Self::Unused(_) => 0,
            Self::Delivery(delivery, ..) => delivery.body.stored_bytes(),
        }
    }
}

fn prepare(
    ingest: &Ingest,
    raw: &[u8],
    form: bool,
    signature: &Signature,
    (headers, origin): (DeliveryHeaders, DeliveryOrigin),
) -> Result<PreparedBody, WebhookRefusal> {
    // Cloned, so that a change of the secrets waits for no body.
    let secrets = ingest.secrets.borrow().accepted.clone();
    if !secrets.is_some_and(|secrets| secrets.verify(raw, signature)) {
        return Err(WebhookRefusal::Signature("wrong"));
    }
    let event = headers
        .event
        .ok_or(WebhookRefusal::Header("X-GitHub-Event is missing"))?;
    let guid = headers
        .guid
        .ok_or(WebhookRefusal::Header("X-GitHub-Delivery is missing"))?;
    origin.check(&ingest.host)?;
    let from_form = form.then(|| form_payload(raw)).transpose()?;
    let json = from_form.as_deref().unwrap_or(raw);
    if event == "ping" {
        return if event::is_json(json) {
            Ok(PreparedBody::Ping(guid))
        } else {
            Err(WebhookRefusal::NotJson)
        };
    }
    let label = metric_label(&event);
    let (source, lane, received_at) = (Source::Webhook, Lane::Live, Utc::now());
    let incoming = IncomingDelivery {
        guid,
        event,
        json,
        source,
        lane,
        received_at,
    };
    let guid = incoming.guid.clone();
    match incoming
        .classify()
        .map_err(|_| WebhookRefusal::Unavailable)?
    {
        Classified::NotJson => Err(WebhookRefusal::NotJson),
        Classified::Unsubscribed => {
            counter!(DELIVERIES, "event" => label, "outcome" => "unused").increment(1);
            Ok(PreparedBody::Unused(guid))
        }
        Classified::Delivery(delivery, decoded) => {
            let host = decoded.as_ref().and_then(|decoded| decoded.host.clone());
            ingest.host.check(host.as_ref())?;
            // The signed body counts before the header.
            let host = host.or(origin.host);
            let host = host.filter(|_| decoded.is_some() && ingest.host.is_open());
            let is_kept = ingest.queue.carries_events() && json.len() <= LARGE;
            let event = decoded.filter(|_| is_kept);
            let event = event.map(|decoded| Box::new(decoded.event));
            Ok(PreparedBody::Delivery(delivery, event, host))
        }
    }
}

/// Returns the JSON of a form's `payload` field.
///
/// # Errors
/// [`WebhookRefusal::NotJson`] if the form has no such field.
pub fn form_payload(raw: &[u8]) -> Result<Vec<u8>, WebhookRefusal> {
    let payload = form_urlencoded::parse(raw).find(|(name, _)| name == "payload");
    payload
        .map(|(_, value)| value.into_owned().into_bytes())
        .ok_or(WebhookRefusal::NotJson)
}

async fn store(
    ingest: &Ingest,
    mut delivery: NewDelivery,
    decoded: Option<&Event>,
) -> Result<WebhookAnswer, WebhookRefusal> {
    // The event of a large body is not kept in memory until the commit: the relay decodes it again,
    // one at a time.
    let by_relay = ingest.queue.carries_events() && decoded.is_none();
    let permit = if by_relay {
        None
    } else {
        reserve(ingest, &mut delivery)
    };
    let (guid, event) = (delivery.guid.clone(), delivery.event.clone());
    let (source, received_at) = (delivery.source.as_str(), delivery.received_at);
    let publication = |id| Publication::new(id, &guid, &event, source, received_at, decoded);
    let state = delivery.state.clone();
    let accepted = ingest.store.accept(delivery).await.map_err(|error| {
        // A database that fails is logged once, by the store.
        tracing::debug!(
            delivery.guid = guid, %error,
            "delivery {guid} cannot be stored; answering 503: {error}"
        );
        WebhookRefusal::Unavailable
    })?;
    let dead_letter = match (accepted, &state) {
        (AcceptOutcome::Duplicate, _) => None,
        (_, NewState::Dead { reason } | NewState::Misnamed { reason }) => Some(reason.clone()),
        (_, NewState::Pending { .. } | NewState::Ignored { .. }) => None,
    };
    let status = match (accepted, state) {
        (AcceptOutcome::Duplicate, _) => {
            counter!(DUPLICATES).increment(1);
            "duplicate"
        }
        (AcceptOutcome::Requeued(id), _) => {
            let again = || ingest.queue.try_reserve(Lane::Live).filter(|_| !by_relay);
            publish(&ingest.queue, permit.or_else(again), id, publication);
            "requeued"
        }
        (AcceptOutcome::Stored(id), NewState::Pending { .. }) => {
            publish(&ingest.queue, permit, id, publication);
            "accepted"
        }
        (AcceptOutcome::Stored(_), NewState::Ignored { .. }) => {
            counter!(DELIVERIES, "event" => metric_label(&event), "outcome" => "ignored")
                .increment(1);
            "ignored"
        }
        (AcceptOutcome::Stored(id), NewState::Dead { reason } | NewState::Misnamed { reason }) => {
            record_dead_letter(id.0, &guid, &event, &reason);
            "accepted"
        }
    };
    tallyhook_core::crash_point::reached("ingest.handed_over");
    Ok(WebhookAnswer {
        status,
        delivery: guid,
        dead_letter,
    })
}

/// Reserves room in the queue before the commit. With a permit the row is swept only after
/// [`REPUBLISH_AFTER`], without one it is due at once.
fn reserve(ingest: &Ingest, delivery: &mut NewDelivery) -> Option<Permit> {
    let NewState::Pending { due } = &mut delivery.state else {
        return None;
    };
    let permit = ingest.queue.try_reserve(delivery.lane)?;
    *due = delivery.received_at + REPUBLISH_AFTER;
    Some(permit)
}

fn publish(
    queue: &Queue,
    permit: Option<Permit>,
    id: DeliveryId,
    publication: impl FnOnce(DeliveryId) -> Publication,
) {
    match permit {
        Some(permit) => permit.send(id, || publication(id)),
        None => queue.defer_to_relay(),
    }
}
