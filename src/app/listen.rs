//! The HTTP server: routes, headers of every answer, the listening socket.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
#[cfg(target_os = "linux")]
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::DefaultHeaders;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use anyhow::Context;
use utoipa_actix_web::service_config::ServiceConfig;

use super::RoleSet;
use super::shutdown::REQUEST_GRACE;
use crate::api::{self, ApiState, WebSocketServer};
use crate::ingest::{self, Ingest};

/// The time a client may accept nothing of an answer before its connection is closed.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Binds the address, or takes the sockets that were handed over in its place, and returns the
/// server, which runs once it is awaited.
///
/// # Errors
/// If the address cannot be used, with the next step.
pub(super) fn bind(
    address: SocketAddr,
    handed_over: Vec<TcpListener>,
    (api, sockets): (ApiState, WebSocketServer),
    ingest: Option<Ingest>,
    roles: RoleSet,
) -> anyhow::Result<(Server, SocketAddr)> {
    let (api, sockets, ingest) = (
        web::Data::new(api),
        web::Data::new(sockets),
        ingest.map(web::Data::new),
    );
    let server = HttpServer::new(move || {
        App::new()
            .app_data(api.clone())
            .app_data(sockets.clone())
            .configure(|service| {
                if let Some(ingest) = &ingest {
                    service.app_data(ingest.clone());
                    service.route("/webhooks/github", web::post().to(ingest::receive));
                }
            })
            .wrap(
                DefaultHeaders::new()
                    .add(("X-Content-Type-Options", "nosniff"))
                    .add(("Cache-Control", "no-store")),
            )
            .configure(|service| api::routes(&mut ServiceConfig::new(service), roles.api))
    })
    .on_connect(|connection, _| {
        if let Some(stream) = connection.downcast_ref() {
            close_if_unacknowledged(stream);
        }
    })
    .disable_signals()
    .shutdown_timeout(REQUEST_GRACE.as_secs());
    let server = if handed_over.is_empty() {
        server.bind(address).map_err(|error| {
            let advice = bind_advice(error.kind());
            anyhow::Error::new(error).context(format!("{address} {advice}"))
        })?
    } else {
        let mut sockets = handed_over.into_iter();
        let listening = sockets.try_fold(server, HttpServer::listen);
        listening.context("cannot listen on a socket of LISTEN_FDS")?
    };
    let address = server
        .addrs()
        .first()
        .copied()
        .context("the server has no listening address")?;
    Ok((server.run(), address))
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
