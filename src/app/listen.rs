//! The HTTP server: routes, headers of every answer, the listening socket.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::time::Duration;

use actix_http::{HttpService, Request};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service,
    map_config,
};
use actix_web::dev::{AppConfig, Server};
use actix_web::http::Method;
use actix_web::middleware::DefaultHeaders;
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};
use anyhow::Context;
use socket2::{Domain, Socket, Type};
use utoipa_actix_web::service_config::ServiceConfig;

use super::RoleSet;
use super::connections::{CLOSING_TIME, Connections, HEAD_TIME, WatchedStream, watch_request};
use super::shutdown::REQUEST_GRACE;
use crate::api::{self, ApiState, WebSocketServer};
use crate::config::PublicUrl;
use crate::dashboard::{self, Links};
use crate::ingest::{self, Ingest};
use crate::sync::webhook::ENDPOINT;

/// The time a client may accept nothing of an answer before its connection is closed.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Connections that the system accepts before this process does.
const BACKLOG: i32 = 1024;

/// Returns the sockets that were handed over, or one that is bound to the address.
///
/// # Errors
/// If the address cannot be used, with the next step.
pub(super) fn listeners(
    address: SocketAddr,
    handed_over: Vec<TcpListener>,
) -> anyhow::Result<Vec<TcpListener>> {
    if !handed_over.is_empty() {
        return Ok(handed_over);
    }
    let listener = listen_on(address).map_err(|error| {
        let advice = bind_advice(error.kind());
        anyhow::Error::new(error).context(format!("{address} {advice}"))
    })?;
    Ok(vec![listener])
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart need not wait for the last connections of the process before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Returns the server on these sockets, which runs once it is awaited, and the first's address.
pub(super) fn serve(
    listeners: Vec<TcpListener>,
    (api, sockets, links): (ApiState, WebSocketServer, Links),
    ingest: Option<Ingest>,
    roles: RoleSet,
    connections: usize,
) -> anyhow::Result<(Server, SocketAddr)> {
    let address = listeners
        .first()
        .and_then(|listener| listener.local_addr().ok())
        .context("the server has no listening address")?;
    let base: Arc<str> = api.public_url.as_ref().map_or("", PublicUrl::path).into();
    let (api, sockets, links, ingest) = (
        web::Data::new(api),
        web::Data::new(sockets),
        web::Data::new(links),
        ingest.map(web::Data::new),
    );
    let app = move || {
        App::new()
            .app_data(api.clone())
            .app_data(sockets.clone())
            .configure(|service| {
                if let Some(ingest) = &ingest {
                    service.app_data(ingest.clone());
                    service.service(
                        web::resource(ENDPOINT)
                            .route(web::post().to(ingest::receive))
                            .default_service(web::to(ingest::explain)),
                    );
                }
            })
            .wrap(
                DefaultHeaders::new()
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Cache-Control", "no-store")),
            )
            .configure(|service| {
                // Before the API: a browser's form of the login is the dashboard's.
                if roles.api {
                    service.app_data(links.clone());
                    dashboard::add_routes(service);
                }
            })
            .configure(|service| api::add_routes(&mut ServiceConfig::new(service), roles.api))
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let limit = connections.div_ceil(threads * listeners.len());
    let mut server = Server::build()
        .workers(threads)
        // One more is accepted, which ends another.
        .max_concurrent_connections(limit + 1)
        .disable_signals()
        .shutdown_timeout(REQUEST_GRACE.as_secs());
    let stopping = server.graceful_shutdown_signal();
    let service = move || {
        let (stopping, base) = (stopping.clone(), base.clone());
        let app = app().into_factory().map_err(|error| error.error_response());
        let app = map_config(app, |()| AppConfig::default());
        let watched = fn_factory(move || {
            let (app, base) = (app.new_service(()), base.clone());
            async move {
                let app = Rc::new(app.await?);
                Ok::<_, ()>(fn_service(move |request| {
                    let (app, base) = (app.clone(), base.clone());
                    watch_request(request, move |request| {
                        app.call(without_base(without_head(request), &base))
                    })
                }))
            }
        });
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(HEAD_TIME)
            .client_request_timeout(HEAD_TIME)
            .client_disconnect_timeout(CLOSING_TIME)
            .on_connect_ext(|stream: &WatchedStream, data| {
                data.insert(stream.connection());
            })
            .h1(watched);
        let connections = Rc::new(Connections::new(limit));
        fn_factory(move || {
            let (http, connections) = (http.new_service(()), connections.clone());
            async move {
                let http = Rc::new(http.await?);
                Ok::<_, ()>(fn_service(move |stream: TcpStream| {
                    let (http, connections) = (http.clone(), connections.clone());
                    async move {
                        close_if_unacknowledged(&stream);
                        let peer = stream.peer_addr().ok();
                        let serve = |stream| http.call((stream, peer));
                        connections.serve(stream, serve).await;
                        Ok::<_, ()>(())
                    }
                }))
            }
        })
    };
    for listener in listeners {
        server = server
            .listen("tallyhook", listener, service.clone())
            .context("cannot listen on a socket")?;
    }
    Ok((server.run(), address))
}

/// Lets a HEAD request be answered as a GET: the encoder, which has seen the request before, sends
/// no body. Handlers and their guards need not know of HEAD.
fn without_head(mut request: Request) -> Request {
    let head = request.head_mut();
    if head.method == Method::HEAD && !head.upgrade() {
        head.method = Method::GET;
    }
    request
}

/// Takes the path of the public address from a request whose proxy left it there. Handlers know
/// their own paths alone.
fn without_base(mut request: Request, base: &str) -> Request {
    let uri = request.uri();
    let below = uri.path().strip_prefix(base).filter(|_| !base.is_empty());
    let Some(below) = below.filter(|path| path.is_empty() || path.starts_with('/')) else {
        return request;
    };
    let query = uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    let slash = if below.is_empty() { "/" } else { "" };
    // A part of an address is one, always.
    if let Ok(uri) = format!("{slash}{below}{query}").parse() {
        request.head_mut().uri = uri;
    }
    request
}

fn bind_advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AddrInUse => {
            "is taken: stop what uses it, or set TALLYHOOK_LISTEN to another (port 0 takes any \
             free one)"
        }
        ErrorKind::PermissionDenied => {
            "needs rights this user does not have: choose a port above 1023"
        }
        _ => "cannot be listened on: TALLYHOOK_LISTEN must be an address of this machine",
    }
}

/// Lets the system close a connection whose client acknowledges nothing for a while. Nothing else
/// would: the last bytes written to a `/ws` client before it was dropped stay in the send buffer.
fn close_if_unacknowledged(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED)) {
        tracing::warn!(
            %error,
            "cannot set the user timeout of a connection: it stays open if its client stops reading"
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}
