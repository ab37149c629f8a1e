//! U+0000, which JSON may hold and PostgreSQL's texts may not.

use std::borrow::Cow;

/// `json` with U+FFFD, the character for what cannot be shown, in place of every escaped U+0000.
/// GitHub lets titles have one. It is taken out where deliveries are decoded, so that every store
/// gives the same facts.
pub fn without_nul(json: &str) -> Cow<'_, str> {
    const NUL: &str = "\\u0000";
    const REPLACEMENT: &str = "\\ufffd";
    // Almost no payload has one, and this search is several times faster than the walk below.
    if !json.contains(NUL) {
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
        if bytes[place..].starts_with(NUL.as_bytes()) {
            let nul = place..place + NUL.len();
            replaced.to_mut().replace_range(nul, REPLACEMENT);
        }
        place += 2;
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_escaped_nul_is_replaced() {
        for (json, expected) in [
            (r#""a\u0000b""#, "a\u{fffd}b"),
            (r#""\u0000\u0000""#, "\u{fffd}\u{fffd}"),
            (r#""\\u0000""#, "\\u0000"),
            (r#""\\\u0000""#, "\\\u{fffd}"),
            (r#""\u00001""#, "\u{fffd}1"),
            (r#""\"\u0001""#, "\"\u{1}"),
        ] {
            assert_eq!(
                serde_json::from_str::<String>(&without_nul(json)).unwrap(),
                expected,
                "{json}"
            );
        }
        assert!(matches!(
            without_nul(r#"{"a":"\n\\u0000"}"#),
            Cow::Borrowed(_)
        ));
        for broken in ["\\", "\\u000", "x\\\\\\"] {
            assert_eq!(without_nul(broken), broken);
        }
    }
}
