//! A client of `/ws`, of another make than the server.

use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{TOKEN, TestServer};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) fn request(server: &TestServer, query: &str) -> Request {
    format!("{}/ws{query}", server.url.replace("http:", "ws:"))
        .into_client_request()
        .unwrap()
}

pub(crate) fn with_header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(crate) fn with_token(request: Request) -> Request {
    with_header(request, "authorization", &format!("Bearer {TOKEN}"))
}

pub(crate) async fn connect(server: &TestServer, query: &str) -> Socket {
    tokio_tungstenite::connect_async(with_token(request(server, query)))
        .await
        .unwrap()
        .0
}

/// The next notification.
pub(crate) async fn frame(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
