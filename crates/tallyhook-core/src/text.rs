//! Text from elsewhere, made safe to show.

/// Returns `text` on one line of at most `max` characters: control characters are escaped,
/// surrounding white space is removed, and `...` stands for what was cut off.
pub fn one_line(text: &str, max: usize) -> String {
    let text = text.trim();
    let mut line: String = text.chars().take(max).flat_map(printable).collect();
    if text.chars().nth(max).is_some() {
        line.push_str("...");
    }
    line
}

/// Escapes what a terminal or a log would act on, and what cannot be seen; line breaks and tabs
/// become spaces.
fn printable(letter: char) -> Box<dyn Iterator<Item = char>> {
    match letter {
        '\n' | '\r' | '\t' => Box::new(std::iter::once(' ')),
        // Escaped in a literal only.
        '"' | '\'' | '\\' => Box::new(std::iter::once(letter)),
        letter => Box::new(letter.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_become_spaces_and_control_characters_are_escaped() {
        assert_eq!(
            one_line("  a\nb\tc\u{1b}[31m\u{202e} ", 100),
            "a b c\\u{1b}[31m\\u{202e}"
        );
    }

    #[test]
    fn invisible_characters_and_line_separators_are_escaped_and_quotes_are_not() {
        assert_eq!(
            one_line("a\u{2028}b\u{2029}c\u{200b}d\u{feff} \"it's\" \\", 100),
            "a\\u{2028}b\\u{2029}c\\u{200b}d\\u{feff} \"it's\" \\"
        );
    }

    #[test]
    fn long_text_is_cut_at_characters() {
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüß", 3), "äöü...");
    }
}
