//! The dates of the fixtures, moved so that their story ends now.

use anyhow::Context;
use serde_json::Value;
use tallyhook_core::github::types::Timestamp;

use super::RecordedDelivery;

/// Moves every time in the deliveries, so that the last one is sent at `now`. Nothing that lies
/// between two times changes.
///
/// # Errors
/// If a payload is not JSON, or no delivery has a time.
pub(super) fn end_now(story: &mut [RecordedDelivery], now: Timestamp) -> anyhow::Result<()> {
    let times = story
        .iter()
        .filter_map(|one| Timestamp::parse(one.delivered_at.as_ref()?));
    let last = times.max().context("no delivery has a time")?;
    let by = now.epoch() - last.epoch();
    for delivery in story {
        let mut payload: Value = serde_json::from_slice(&delivery.payload)?;
        shift(&mut payload, by);
        delivery.payload = serde_json::to_vec(&payload)?;
        delivery.delivered_at = delivery.delivered_at.take().map(|time| shifted(&time, by));
    }
    Ok(())
}

fn shift(value: &mut Value, by: i64) {
    match value {
        Value::String(text) => *text = shifted(text, by),
        Value::Array(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shift(field, by)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns a time moved by seconds, and any other text as it is.
fn shifted(text: &str, by: i64) -> String {
    Timestamp::parse(text).map_or_else(
        || text.to_owned(),
        |time| Timestamp::clamped(time.epoch() + by).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn story_ends_now_with_its_durations() {
        let delivery = |delivered: &str, payload: &str| RecordedDelivery {
            event: "pull_request".to_owned(),
            guid: "a".to_owned(),
            delivered_at: Some(delivered.to_owned()),
            payload: payload.as_bytes().to_vec(),
        };
        let mut story = [
            delivery(
                "2026-03-20T10:00:00Z",
                r#"{"a":["2026-03-20T11:00:00+02:00"],"n":7}"#,
            ),
            delivery(
                "2026-03-02T10:00:00Z",
                r#"{"a":"2026-03-02T09:59:00.000Z","b":"2026"}"#,
            ),
        ];
        end_now(
            &mut story,
            Timestamp::parse("2027-01-01T00:00:00Z").unwrap(),
        )
        .unwrap();
        let texts = story.map(|one| {
            let payload = String::from_utf8(one.payload).unwrap();
            (one.delivered_at.unwrap(), payload)
        });
        let wanted = [
            (
                "2027-01-01T00:00:00Z",
                r#"{"a":["2026-12-31T23:00:00Z"],"n":7}"#,
            ),
            (
                "2026-12-14T00:00:00Z",
                r#"{"a":"2026-12-13T23:59:00Z","b":"2026"}"#,
            ),
        ];
        assert_eq!(
            texts,
            wanted.map(|(one, two)| (one.to_owned(), two.to_owned()))
        );
    }
}
