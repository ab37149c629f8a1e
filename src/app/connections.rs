//! Connections of the HTTP server: the lifetime of each, and their number.
//!
//! actix-http bounds the first head of a connection, an idle connection, and the time after an
//! answer to a request whose body of known length is unread. A later head, a chunked body that was
//! answered before its end and a client that reads slowly have no bound there. So each connection
//! is watched from outside: its stream notes what passes, the service of its requests notes what
//! is expected next, and [`Connection::overdue`] ends it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_http::Request;
use actix_web::dev::{Payload, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::rt::net::TcpStream;
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::telemetry::count_refusal;

/// The time for a request's head, and of a connection without a request.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);
/// The time after an answer that was given before the end of the request's body.
pub(super) const CLOSING_TIME: Duration = Duration::from_secs(1);
/// The time that actix-http has to close a connection by itself, with an answer if it has one.
const HEAD_GRACE: Duration = Duration::from_millis(500);
/// The time to read an answer, which grows with what is read of it.
const ANSWER_TIME: Duration = Duration::from_secs(8);
const ANSWER_BYTES_PER_SECOND: u64 = 64 * 1024;
/// The interval at which a watch looks for a deadline that has moved; shorter than every one of them.
const LOOK: Duration = Duration::from_secs(1);
/// The age from which a connection may end for a new one: a client that is there sends at once.
const DISPLACEABLE_AFTER: Duration = Duration::from_millis(500);
/// The interval at which a connection that waits for another's place looks for one.
const PLACE_LOOK: Duration = Duration::from_millis(50);
/// Answers that wait to be read by the client of one connection.
const MAX_UNREAD_ANSWERS: u32 = 16;
/// The bytes of later requests that are read while one is answered.
const MAX_READ_AHEAD: usize = 16 * 1024;
/// The size of a read after which what was read is handled before more is read.
const LARGE_READ: usize = 4 * 1024;

/// The part of an exchange that a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before a request's first byte.
    Idle,
    /// Within a request's head, or before the first byte of a new connection.
    Head,
    /// Between head and answer.
    Request,
    /// After an answer that was given before the end of the body.
    Closing,
    /// A WebSocket, which has a heartbeat of its own.
    Upgraded,
}

/// The state of one connection, shared by its stream, its requests and its watch.
pub(super) struct Connection {
    phase: Cell<Phase>,
    /// The start of the phase.
    since: Cell<Instant>,
    body_open: Cell<bool>,
    /// True once a request was answered with a success.
    served: Cell<bool>,
    last_write: Cell<Instant>,
    /// Bytes written since the last answer.
    written: Cell<u64>,
    /// The client takes no more bytes now.
    blocked: Cell<bool>,
    unread_answers: Cell<u32>,
    read_ahead: Cell<usize>,
    suspended_reader: Cell<Option<Waker>>,
    flushed: Notify,
    displaced: Notify,
}

impl Connection {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            phase: Cell::new(Phase::Head),
            since: Cell::new(now),
            body_open: Cell::new(false),
            served: Cell::new(false),
            last_write: Cell::new(now),
            written: Cell::new(0),
            blocked: Cell::new(false),
            unread_answers: Cell::new(0),
            read_ahead: Cell::new(0),
            suspended_reader: Cell::new(None),
            flushed: Notify::new(),
            displaced: Notify::new(),
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
        self.read_ahead.set(0);
        self.resume_reader();
    }

    fn may_read(&self) -> bool {
        !self.blocked.get()
            && self.unread_answers.get() < MAX_UNREAD_ANSWERS
            && self.read_ahead.get() < MAX_READ_AHEAD
    }

    fn resume_reader(&self) {
        if self.may_read()
            && let Some(reader) = self.suspended_reader.take()
        {
            reader.wake();
        }
    }

    fn note_read(&self, bytes: usize) {
        match self.phase.get() {
            Phase::Idle => self.enter(Phase::Head),
            Phase::Request if !self.body_open.get() => {
                self.read_ahead.set(self.read_ahead.get() + bytes);
            }
            _ => {}
        }
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.last_write.set(Instant::now());
                self.written.set(self.written.get() + *bytes as u64);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.blocked.set(true),
        }
    }

    /// Notes that the system has taken every byte written so far.
    fn note_flush(&self) {
        self.blocked.set(false);
        if self.unread_answers.take() >= MAX_UNREAD_ANSWERS {
            self.flushed.notify_one();
        }
        self.resume_reader();
    }

    /// Waits until the client has room for another answer.
    async fn room(&self) {
        while self.unread_answers.get() >= MAX_UNREAD_ANSWERS {
            self.flushed.notified().await;
        }
    }

    fn note_answer(&self, status: StatusCode) {
        self.served.set(self.served.get() || status.is_success());
        self.unread_answers.set(self.unread_answers.get() + 1);
        self.written.set(0);
        self.enter(match status {
            StatusCode::SWITCHING_PROTOCOLS => Phase::Upgraded,
            _ if self.body_open.get() => Phase::Closing,
            _ => Phase::Idle,
        });
    }

    /// Returns the time at which the connection ends unless something happens; `None` if that is
    /// up to the request.
    fn deadline(&self) -> Option<Instant> {
        let (phase, since) = (self.phase.get(), self.since.get());
        if matches!(phase, Phase::Request | Phase::Upgraded) {
            return None;
        }
        if self.blocked.get() {
            let earned = Duration::from_secs(self.written.get() / ANSWER_BYTES_PER_SECOND);
            return Some(since + ANSWER_TIME + earned);
        }
        Some(match phase {
            Phase::Closing => since.max(self.last_write.get()) + CLOSING_TIME,
            Phase::Idle => since.max(self.last_write.get()) + HEAD_TIME + HEAD_GRACE,
            _ => since + HEAD_TIME + HEAD_GRACE,
        })
    }

    /// Waits until the connection has to end.
    async fn overdue(&self) {
        loop {
            let now = Instant::now();
            let deadline = self.deadline().unwrap_or(now + LOOK);
            if deadline <= now {
                return;
            }
            tokio::select! {
                () = sleep_until(deadline.min(now + LOOK)) => {}
                () = self.displaced.notified() => {
                    count_refusal("connections");
                    return;
                }
            }
        }
    }

    /// Counts the end of a connection that held something for as long as it could.
    fn note_end(&self) {
        let held = self.since.get().elapsed() >= HEAD_TIME;
        if self.blocked.get() {
            count_refusal("answer_unread");
        } else if held && self.phase.get() == Phase::Head {
            count_refusal("head_too_slow");
        }
    }

    /// Returns true if the connection may end for a new one: nothing of a request that is being
    /// answered depends on it.
    fn is_displaceable(&self) -> bool {
        if self.since.get().elapsed() < DISPLACEABLE_AFTER {
            return false;
        }
        match self.phase.get() {
            Phase::Idle | Phase::Head | Phase::Closing => true,
            Phase::Request => self.body_open.get(),
            Phase::Upgraded => false,
        }
    }
}

/// The open connections of one thread.
pub(super) struct Connections {
    limit: usize,
    next: Cell<u64>,
    open: RefCell<HashMap<u64, Rc<Connection>>>,
    ended: Notify,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            next: Cell::new(0),
            open: RefCell::default(),
            ended: Notify::new(),
        }
    }

    /// Serves a connection until it ends or has to. If there are too many, the oldest of those
    /// that were never answered with a success ends for it, or it waits until another has ended.
    pub(super) async fn serve<T, F: Future<Output = T>>(
        &self,
        io: TcpStream,
        serve: impl FnOnce(WatchedStream) -> F,
    ) {
        if !self.has_place().await {
            count_refusal("connections");
            return;
        }
        let connection = Rc::new(Connection::new());
        let number = self.next.replace(self.next.get() + 1);
        self.open.borrow_mut().insert(number, connection.clone());
        let stream = WatchedStream {
            io,
            connection: connection.clone(),
            pauses: false,
        };
        tokio::select! {
            _ = serve(stream) => {}
            () = connection.overdue() => {}
        }
        connection.note_end();
        self.open.borrow_mut().remove(&number);
        self.ended.notify_one();
    }

    /// Waits for a place for one more connection. Returns false if there was none in time.
    async fn has_place(&self) -> bool {
        let end = Instant::now() + HEAD_TIME;
        while self.open.borrow().len() >= self.limit && !self.displace_one() {
            if Instant::now() >= end {
                return false;
            }
            tokio::select! {
                () = self.ended.notified() => {}
                () = sleep(PLACE_LOOK) => {}
            }
        }
        true
    }

    fn displace_one(&self) -> bool {
        let open = self.open.borrow();
        let displaceable = open.values().filter(|one| one.is_displaceable());
        let oldest = displaceable.min_by_key(|one| (one.served.get(), one.since.get()));
        if let Some(oldest) = oldest {
            oldest.enter(Phase::Closing);
            oldest.displaced.notify_one();
        }
        oldest.is_some()
    }
}

/// The stream of a connection. It notes what passes, and reads no more than the client lets it
/// answer.
pub(super) struct WatchedStream {
    io: TcpStream,
    connection: Rc<Connection>,
    /// The next read waits until what was read is handled.
    pauses: bool,
}

impl WatchedStream {
    pub(super) fn connection(&self) -> Rc<Connection> {
        self.connection.clone()
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.connection.may_read() {
            let reader = Some(context.waker().clone());
            this.connection.suspended_reader.set(reader);
            return Poll::Pending;
        }
        if std::mem::take(&mut this.pauses) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            this.connection.note_read(bytes);
            this.pauses = bytes >= LARGE_READ && this.connection.phase.get() == Phase::Head;
        }
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.connection.note_write(&written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.connection.note_flush();
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

/// The body of a request, which notes when it was read to its end.
struct WatchedBody {
    body: Payload,
    connection: Rc<Connection>,
}

impl Stream for WatchedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = Pin::new(&mut this.body).poll_next(context);
        if matches!(next, Poll::Ready(None)) {
            this.connection.body_open.set(false);
        }
        next
    }
}

/// Answers a request by `answer` and notes what its connection is to expect. An answer before the
/// end of the body says that the connection ends with it.
pub(super) async fn watch_request<B, E, F>(
    mut request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Result<ServiceResponse<B>, E>
where
    F: Future<Output = Result<ServiceResponse<B>, E>>,
{
    let Some(connection) = request.conn_data::<Rc<Connection>>().cloned() else {
        return answer(request).await;
    };
    connection.room().await;
    let body = request.take_payload();
    connection.body_open.set(!matches!(body, Payload::None));
    if connection.body_open.get() {
        *request.payload() = Payload::Stream {
            payload: Box::pin(WatchedBody {
                body,
                connection: connection.clone(),
            }),
        };
    }
    connection.enter(Phase::Request);
    let mut answered = answer(request).await;
    let status = match &answered {
        Ok(answered) => answered.status(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    connection.note_answer(status);
    if connection.phase.get() == Phase::Closing
        && let Ok(answered) = &mut answered
    {
        let head = answered.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    answered
}
