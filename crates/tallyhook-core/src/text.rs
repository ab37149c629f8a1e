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

/// Escapes what a terminal or a log would act on; line breaks and tabs become spaces.
fn printable(letter: char) -> Box<dyn Iterator<Item = char>> {
    match letter {
        '\n' | '\r' | '\t' => Box::new(std::iter::once(' ')),
        letter if letter.is_control() || is_direction(letter) => Box::new(letter.escape_unicode()),
        letter => Box::new(std::iter::once(letter)),
    }
}

/// Returns whether a character changes the direction of the text around it, so that a line would
/// read otherwise than it is.
const fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn long_text_is_cut_at_characters() {
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüß", 3), "äöü...");
    }
}
