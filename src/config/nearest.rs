//! The name or value that was probably meant.

/// Returns the nearest of `known` to a misspelt `word`, without regard to case.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // One letter of a short word, three of a long one.
    let limit = 1 + word.chars().count() / 8;
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&word, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Returns the first form of a value, as people write it elsewhere, that `is_good` accepts.
pub(super) fn meant_value(text: &str, is_good: impl Fn(&str) -> bool) -> Option<String> {
    let plain = text.trim_matches(['"', '\'']).trim();
    let lower = plain.to_lowercase();
    let digits = lower.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let address = lower
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .replace("localhost", "127.0.0.1");
    let truth = match lower.as_str() {
        "yes" | "y" | "on" | "1" => "true",
        "no" | "n" | "off" | "0" => "false",
        _ => "",
    };
    let forms = [
        plain.to_owned(),
        lower.clone(),
        truth.to_owned(),
        format!("{lower}s"),
        address.clone(),
        format!("127.0.0.1:{address}"),
        format!("127.0.0.1{address}"),
        format!("{address}:8080"),
        digits.to_owned(),
    ];
    forms.into_iter().find(|form| form != text && is_good(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_word_is_recognised_and_another_word_is_not() {
        let known = ["sync_interval", "sync_timeout", "amqp_url"];
        for (word, expected) in [
            ("sync_intervall", Some("sync_interval")),
            ("SYNC_INTERVAL", Some("sync_interval")),
            ("ampq_url", Some("amqp_url")),
            ("sync", None),
            ("slack", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
