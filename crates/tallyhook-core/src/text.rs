//! Text from elsewhere, made safe to show.

use std::error::Error;
use std::fmt::Write;

/// Returns `text` on one line of at most `max` characters: control characters are escaped,
/// surrounding white space is removed, and `...` stands for what was cut off.
pub fn one_line(text: &str, max: usize) -> String {
    let text = text.trim();
    let mut line = String::with_capacity(text.len().min(max));
    let mut letters = text.chars();
    for letter in letters.by_ref().take(max) {
        match letter {
            '\n' | '\r' | '\t' => line.push(' '),
            letter => push_printable(&mut line, letter),
        }
    }
    if letters.next().is_some() {
        line.push_str("...");
    }
    line
}

/// Returns an error and its causes on one line, each text once: many errors have their cause in
/// their own text and as their source.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// Returns `text` for a terminal: line ends stay, everything else that a terminal would act on, or
/// cannot show, is escaped.
pub fn printable_lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => lines.push('\n'),
            letter => push_printable(&mut lines, letter),
        }
    }
    lines
}

/// Returns `json` for a terminal: the same value, in which what a terminal would act on, or cannot
/// show, is an escape of JSON.
pub fn printable_json(json: &str) -> String {
    let mut printable = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter == '\n' || is_printable(letter) {
            printable.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(printable, "\\u{unit:04x}");
        }
    }
    printable
}

fn push_printable(line: &mut String, letter: char) {
    if is_printable(letter) {
        line.push(letter);
    } else {
        line.extend(letter.escape_debug());
    }
}

/// Returns whether a terminal shows `letter` and does nothing else.
fn is_printable(letter: char) -> bool {
    // Quotes and the backslash are escaped in a literal only.
    matches!(letter, ' '..='~') || (!letter.is_ascii() && letter.escape_debug().len() == 1)
}

/// The longest name that a person gives to something here.
const MAX_NAME: usize = 100;

/// Checks a name that a person gives to something: 1 to 100 visible characters, without white space
/// around them.
///
/// # Errors
/// The broken rule and the next step, to follow "the name".
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        Err("is empty: give it 1 to 100 characters")
    } else if name.chars().count() > MAX_NAME {
        Err("is too long: give it at most 100 characters")
    } else if name.trim() != name {
        Err("begins or ends with white space: leave it out")
    } else if !name.chars().all(is_visible) {
        Err("has a control, bidirectional or invisible character: leave it out")
    } else {
        Ok(())
    }
}

/// The most characters of a login on GitHub.
const MAX_LOGIN_LENGTH: usize = 39;

/// Reads a login on GitHub, which may be written with its `@`; the error is the expected form.
///
/// # Errors
/// If GitHub has no such logins.
pub fn read_login(login: &str) -> Result<&str, &'static str> {
    let login = login.trim();
    let login = login.strip_prefix('@').unwrap_or(login);
    // Those of organizations with managed users have an underscore before a short code.
    let (name, code) = match login.split_once('_') {
        Some((name, code)) => (name, Some(code)),
        None => (login, None),
    };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric());
    let is_login = login.len() <= MAX_LOGIN_LENGTH
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && !name.is_empty()
        && !name.starts_with('-')
        && code.is_none_or(is_word);
    match is_login {
        true => Ok(login),
        false => Err("is no login on GitHub: expected letters, digits and dashes, at most 39"),
    }
}

/// The most characters of a team's slug.
const MAX_SLUG_LENGTH: usize = 40;

/// Words that a path of ours has, or may get, where it names a team.
const RESERVED_SLUGS: [&str; 9] = [
    "all", "any", "api", "instance", "me", "new", "none", "operator", "teams",
];

/// Returns the slug of a team of this name: letters, digits and dashes, 1 to 40.
///
/// # Errors
/// The broken rule and the next step, to follow "the name".
pub fn team_slug(name: &str) -> Result<String, &'static str> {
    let words = name.split(|letter: char| letter == '_' || letter == '-' || letter.is_whitespace());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let slug = words.join("-").to_ascii_lowercase();
    let is_slug =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    if slug.is_empty() {
        Err("is empty: give it 1 to 40 letters, digits and dashes")
    } else if slug.len() > MAX_SLUG_LENGTH {
        Err("is too long: give it at most 40 characters")
    } else if !slug.bytes().all(is_slug) {
        Err("has other characters than the letters a to z, digits and dashes: leave them out")
    } else if RESERVED_SLUGS.contains(&slug.as_str()) {
        Err("is a word of our paths: choose another")
    } else {
        Ok(slug)
    }
}

/// Reads the slug of a team at GitHub.
///
/// # Errors
/// If GitHub has no such slugs.
pub fn read_github_team(slug: &str) -> Result<&str, &'static str> {
    const MAX_LENGTH: usize = 255;
    let slug = slug.trim();
    let is_letter = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    match !slug.is_empty() && slug.len() <= MAX_LENGTH && slug.bytes().all(is_letter) {
        true => Ok(slug),
        false => Err("is no slug of a team at GitHub: expected letters, digits and dashes"),
    }
}

/// Returns whether a reader of a name sees `letter`, by itself or above the letter before it.
fn is_visible(letter: char) -> bool {
    let is_blank = matches!(
        letter,
        '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    );
    // A combining mark is escaped only where it has no letter before it.
    let follows = || format!("a{letter}").escape_debug().count() == 2;
    !is_blank && (is_printable(letter) || (!letter.is_ascii() && follows()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_have_the_form_of_github() {
        for (login, expected) in [
            ("ines-acme", Some("ines-acme")),
            ("@ines-acme", Some("ines-acme")),
            (" Ines42 ", Some("Ines42")),
            // GitHub has old ones that end in a dash.
            ("ines-", Some("ines-")),
            ("ines_acme", Some("ines_acme")),
            ("", None),
            ("@", None),
            ("-ines", None),
            ("_acme", None),
            ("ines_", None),
            ("ines acme", None),
            ("github_team:backend", None),
            ("ïnes", None),
            ("a234567890123456789012345678901234567890", None),
        ] {
            assert_eq!(read_login(login).ok(), expected, "{login}");
        }
    }

    #[test]
    fn name_is_visible_and_has_1_to_100_characters() {
        let longest = "ü".repeat(100);
        for name in [
            "a",
            "dashboard of team 7",
            "ทีม",
            "नमस्ते",
            "e\u{301}",
            &longest,
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let too_long = format!("{longest}a");
        for (name, why) in [
            ("", "is empty"),
            (" \u{3000}", "is empty"),
            (&too_long, "too long"),
            (" a", "white space"),
            ("a\n", "white space"),
            ("a\nb", "control"),
            ("a\0b", "control"),
            ("a\u{1b}[31mb", "control"),
            ("a\u{9b}b", "control"),
            ("a\u{202e}b", "control"),
            ("a\u{2066}b", "control"),
            ("a\u{200b}b", "control"),
            ("a\u{200d}b", "control"),
            ("a\u{2028}b", "control"),
            ("a\u{feff}b", "control"),
            ("a\u{ad}b", "control"),
            ("\u{3164}", "control"),
            ("a\u{fe0f}", "control"),
            ("a\u{e0041}", "control"),
            ("a\u{a0}b", "control"),
        ] {
            let refused = check_name(name).unwrap_err();
            assert!(refused.contains(why), "{name:?}: {refused}");
        }
    }

    #[test]
    fn slug_of_a_team_is_made_of_its_name() {
        let longest = "a".repeat(40);
        for (name, slug) in [
            ("default", "default"),
            ("Mobile apps", "mobile-apps"),
            (" a__b - c ", "a-b-c"),
            ("team-7", "team-7"),
            (longest.as_str(), longest.as_str()),
        ] {
            assert_eq!(team_slug(name).as_deref(), Ok(slug), "{name}");
        }
        let too_long = format!("{longest}a");
        for (name, why) in [
            ("", "is empty"),
            (" - ", "is empty"),
            (too_long.as_str(), "too long"),
            ("a/b", "other characters"),
            ("..", "other characters"),
            ("für", "other characters"),
            ("a%2fb", "other characters"),
            ("Me", "word of our paths"),
            ("teams", "word of our paths"),
        ] {
            let refused = team_slug(name).unwrap_err();
            assert!(refused.contains(why), "{name:?}: {refused}");
        }
    }

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
    fn cause_that_an_error_repeats_is_shown_once() {
        #[derive(Debug, thiserror::Error)]
        enum Layer {
            #[error("cannot open t.db")]
            Open(#[source] Box<Layer>),
            #[error("the database failed: {0}")]
            Repeats(#[source] Box<Layer>),
            #[error("disk full")]
            Disk,
        }
        let repeats = Layer::Repeats(Box::new(Layer::Disk));
        let text = with_causes(&Layer::Open(Box::new(repeats)));
        assert_eq!(text, "cannot open t.db: the database failed: disk full");
        assert_eq!(with_causes(&Layer::Disk), "disk full");
    }

    #[test]
    fn long_text_is_cut_at_characters() {
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("äöüß", 3), "äöü...");
    }

    #[test]
    fn text_for_a_terminal_keeps_its_lines_and_json_its_value() {
        let hostile = "a\u{1b}[31m\u{9b}1m\r\u{202e}\u{7f}\u{e0001}ä\nb\u{301}";
        let lines = printable_lines(hostile);
        assert_eq!(
            lines,
            "a\\u{1b}[31m\\u{9b}1m\\r\\u{202e}\\u{7f}\\u{e0001}ä\nb\\u{301}"
        );
        let json = format!("{{\n  \"a\": {}\n}}", serde_json::json!(hostile));
        let printable = printable_json(&json);
        assert!(
            printable
                .chars()
                .all(|letter| letter == '\n' || is_printable(letter))
        );
        let values = [&json, &printable]
            .map(|json| serde_json::from_str::<serde_json::Value>(json).unwrap());
        assert_eq!(values[0], values[1]);
    }
}
