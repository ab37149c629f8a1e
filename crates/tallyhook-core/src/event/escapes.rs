//! Escapes that JSON may hold and no text may: U+0000, which PostgreSQL refuses, and halves of
//! surrogate pairs.

use std::borrow::Cow;
use std::ops::Range;

/// `json` with U+FFFD, the character for what cannot be shown, in place of every escaped U+0000 and
/// of every half of a surrogate pair that stands alone. GitHub lets titles have them, and cuts texts
/// between two halves. They are taken out where deliveries are decoded, so that every store gives
/// the same facts.
pub fn storable_json(json: &str) -> Cow<'_, str> {
    const REPLACEMENT: &str = "\\ufffd";
    // Almost no payload has any, and these searches are several times faster than the walk below.
    let suspect = ["\\u0000", "\\ud", "\\uD"];
    if !json.contains("\\u") || !suspect.iter().any(|escape| json.contains(escape)) {
        return Cow::Borrowed(json);
    }
    let bytes = json.as_bytes();
    let mut replaced = Cow::Borrowed(json);
    let mut place = 0;
    // Backslashes are in strings only, and each goes with the character behind it: `\\u0000` is no
    // U+0000.
    while let Some(found) = bytes
        .get(place..)
        .and_then(|rest| rest.iter().position(|byte| *byte == b'\\'))
    {
        place += found;
        let low = place + 6;
        match escaped(bytes, place) {
            Some(0xd800..0xdc00) if matches!(escaped(bytes, low), Some(0xdc00..0xe000)) => {
                place = low;
            }
            Some(0 | 0xd800..0xe000) => {
                replaced.to_mut().replace_range(unit(place), REPLACEMENT);
            }
            _ => {}
        }
        place += 2;
    }
    replaced
}

/// Returns the range of the escape of a UTF-16 unit.
const fn unit(place: usize) -> Range<usize> {
    place..place + 6
}

/// Returns the UTF-16 unit that is escaped at `place`, as in `\u0041`.
fn escaped(bytes: &[u8], place: usize) -> Option<u16> {
    let digits = bytes.get(unit(place))?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_escapes_that_no_text_can_hold_are_replaced() {
        for (json, expected) in [
            (r#""a\u0000b""#, "a\u{fffd}b"),
            (r#""\u0000\u0000""#, "\u{fffd}\u{fffd}"),
            (r#""\\u0000""#, "\\u0000"),
            (r#""\\\u0000""#, "\\\u{fffd}"),
            (r#""\u00001""#, "\u{fffd}1"),
            (r#""\"\u0001""#, "\"\u{1}"),
            (r#""cut \ud83d""#, "cut \u{fffd}"),
            (r#""\uDE00 \ud83d\ude00""#, "\u{fffd} \u{1f600}"),
            (r#""\ud83d\ud83d\ude00x""#, "\u{fffd}\u{1f600}x"),
            (r#""\ud83d\u0041\ud83d\\ude00""#, "\u{fffd}A\u{fffd}\\ude00"),
            (r#""\ud83d\u0000""#, "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(
                serde_json::from_str::<String>(&storable_json(json)).unwrap(),
                expected,
                "{json}"
            );
        }
        assert!(matches!(
            storable_json(r#"{"a":"\n\\u0000\ud83d\ude00"}"#),
            Cow::Borrowed(_)
        ));
        for broken in ["\\", "\\u000", "x\\\\\\", "\\u+123", "\\ud83", "\\u00é"] {
            assert_eq!(storable_json(broken), broken);
        }
    }
}
