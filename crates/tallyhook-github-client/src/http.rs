//! HTTP details that every client of this program needs: `Retry-After`, error causes, bounded
//! bodies.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Response;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The shortest delay that [`retry_after`] returns. A server that answers `0` would be asked in a
/// tight loop.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest delay that [`retry_after`] returns, so that it can be added to any date.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24 * 366);

/// The beginning of a response body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BoundedBody {
    pub bytes: Vec<u8>,
    /// The body is longer than the limit, and `bytes` is not all of it.
    pub truncated: bool,
}

/// Returns the delay that `Retry-After` asks for, in seconds or as a date, from one second to one
/// year.
///
/// A date is compared with the response's own `Date` where there is one, since this machine's clock
/// may be wrong by minutes; else with `now`. A header that is neither a number nor a date counts as
/// absent.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
            (date - server_time(headers).unwrap_or(now))
                .to_std()
                .unwrap_or_default()
        }
    };
    Some(delay.clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER))
}

/// Returns the time of the response by the server's own clock, from its `Date` header.
pub fn server_time(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = headers.get(DATE)?.to_str().ok()?.trim();
    httpdate::parse_http_date(date).ok().map(DateTime::from)
}

/// Returns the text of the innermost cause of `error`. The causes above it only repeat the address.
pub fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Reads the body of `response`, and not more than `max` bytes of it.
///
/// # Errors
/// If the connection breaks before the body ends or `max` bytes are read.
pub async fn read_bounded(response: Response, max: usize) -> reqwest::Result<BoundedBody> {
    let mut body = BoundedBody::default();
    read_into(&mut body, response, max).await?;
    Ok(body)
}

/// Reads the body of `response` like [`read_bounded`], for a person to look at: if the connection
/// breaks, returns the part before.
pub async fn read_excerpt(response: Response, max: usize) -> BoundedBody {
    let mut body = BoundedBody::default();
    if read_into(&mut body, response, max).await.is_err() {
        body.truncated = true;
    }
    body
}

async fn read_into(
    body: &mut BoundedBody,
    mut response: Response,
    max: usize,
) -> reqwest::Result<()> {
    while let Some(chunk) = response.chunk().await? {
        let room = max - body.bytes.len();
        body.bytes
            .extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            body.truncated = true;
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn excerpt_is_the_part_before_the_connection_broke() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            let response = b"HTTP/1.1 500 Failed\r\nContent-Length: 100\r\n\r\nno way";
            stream.write_all(response).await.unwrap();
        };
        let asking = async { read_excerpt(reqwest::get(url).await.unwrap(), 2048).await };
        let ((), body) = tokio::join!(answering, asking);
        assert_eq!(
            (body.bytes.as_slice(), body.truncated),
            (b"no way".as_slice(), true)
        );
    }

    fn delay(headers: &[(&'static str, &'static str)]) -> Option<u64> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        retry_after(&headers, now).map(|delay| delay.as_secs())
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date_within_bounds() {
        for (value, seconds) in [
            ("30", Some(30)),
            (" 0 ", Some(1)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("Tue, 06 Nov 2035 08:50:37 GMT", Some(366 * 24 * 3600)),
            ("-5", None),
            ("soon", None),
        ] {
            assert_eq!(delay(&[("retry-after", value)]), seconds, "{value}");
        }
        assert_eq!(delay(&[]), None);
    }

    #[test]
    fn retry_after_date_is_compared_with_the_servers_own_clock() {
        let headers = [
            ("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT"),
            ("date", "Sun, 06 Nov 1994 08:50:17 GMT"),
        ];
        assert_eq!(delay(&headers), Some(20));
    }

    #[test]
    fn root_cause_is_the_innermost_error() {
        let inner = std::io::Error::other("connection reset");
        let outer = std::io::Error::other(std::io::Error::other(inner));
        assert_eq!(root_cause(&outer), "connection reset");
    }
}
