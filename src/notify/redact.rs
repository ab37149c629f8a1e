//! Redaction of a channel's address in texts from its receiver.

use std::cmp::Reverse;

use reqwest::Url;

/// Length of a path or query part from which it may be a secret. Shorter ones are common words.
const MIN_SECRET: usize = 8;
/// Characters of a secret at the end of a text that count as its beginning, cut off.
const MIN_MATCH: usize = 4;

/// Returns a receiver's text with every part of the address `url` that may be a secret replaced by
/// `…`. Many receivers repeat the path of a request in their error messages.
pub(super) fn redact(url: &Url, text: &str) -> String {
    let secrets = secrets(url);
    // ASCII case folding keeps byte positions, so this has the same length as `text`.
    let folded = text.to_ascii_lowercase();
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let folded = &folded[text.len() - rest.len()..];
        // The text may have been cut off within a secret.
        let is_cut_off = |secret: &str| folded.len() >= MIN_MATCH && secret.starts_with(folded);
        let secret = secrets
            .iter()
            .find(|secret| folded.starts_with(*secret) || is_cut_off(secret));
        redacted.push(if secret.is_some() { '…' } else { letter });
        let consumed = secret.map_or(letter.len_utf8(), |secret| secret.len());
        rest = rest.get(consumed..).unwrap_or_default();
    }
    redacted
}

/// Returns the parts of an address that may be secrets, both as sent and percent-decoded, in lower
/// case and the longest first.
fn secrets(url: &Url) -> Vec<String> {
    let (path, query) = (
        url.path().trim_end_matches('/'),
        url.query().unwrap_or_default(),
    );
    let parts = path
        .split('/')
        .chain(query.split(['&', '=']))
        .filter(|part| part.len() >= MIN_SECRET);
    let mut secrets: Vec<_> = parts
        .chain([path, query])
        .flat_map(|part| [part.to_ascii_lowercase(), decode(part).to_ascii_lowercase()])
        .filter(|secret| !secret.is_empty())
        .collect();
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// Percent-decodes a part of an address.
fn decode(part: &str) -> String {
    // These have a meaning in a form, but not in a path or within a query's value.
    let escaped = part
        .replace('&', "%26")
        .replace('=', "%3D")
        .replace('+', "%2B");
    form_urlencoded::parse(escaped.as_bytes())
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_parts_of_the_address_are_redacted_in_every_encoding() {
        let url = Url::parse(
            "https://h.example.com/hook/AbCdEfGh%2Fij/x7/?token=p%40ssw+ord&k=v&Long-Name",
        );
        let url = url.unwrap();
        for (text, redacted) in [
            ("", ""),
            ("no such hook, token or name", "no such hook, token or name"),
            (
                "Cannot POST /hook/AbCdEfGh%2Fij/x7/?token=p%40ssw+ord&k=v&Long-Name",
                "Cannot POST …/?…",
            ),
            ("Cannot POST /hook/abcdefgh%2fij/x7 é", "Cannot POST … é"),
            ("'/hook/AbCdEfGh/ij/x7' is not known", "'…' is not known"),
            (
                r#"{"path":"\/hook\/AbCdEfGh%2Fij\/x7"}"#,
                r#"{"path":"\/hook\/…\/x7"}"#,
            ),
            ("AbCdEfGh/ijABCDEFGH%2FIJ", "……"),
            ("p%40ssw+ord, p@ssw+ord, LONG-NAME", "…, …, …"),
            // Text that was cut off within a secret.
            ("Cannot POST /hook/AbC", "Cannot POST …"),
            ("there is no AbCdEf", "there is no …"),
            ("there is no AbC", "there is no AbC"),
        ] {
            assert_eq!(redact(&url, text), redacted, "{text}");
        }
        let url = Url::parse("https://h.example.com").unwrap();
        assert_eq!(redact(&url, "Cannot POST /"), "Cannot POST /");
    }
}
