//! The task keys that a pull request names.

use std::collections::BTreeSet;
use std::fmt;

use regex::{Regex, RegexBuilder};
use thiserror::Error;
use uuid::Uuid;

use super::prose::prose;
use crate::domain::people::Bots;
use crate::domain::pull_request::PullRequest;

/// The most keys of one pull request; the branch's first, then the title's, then the body's.
pub const MOST_KEYS: usize = 20;
/// The most patterns, the longest of them in bytes, and the largest in memory when compiled, in
/// bytes.
const MOST_PATTERNS: usize = 16;
const LONGEST_PATTERN: usize = 256;
const LARGEST_PATTERN: usize = 256 * 1024;
/// GitHub's limit for the length of a body.
const LONGEST_TEXT: usize = 64 * 1024;
const LONGEST_KEY: usize = 64;
/// The most matches that are looked at in one text, shared equally by the patterns. One search takes
/// time in proportion to the text; without this bound a text of many matches, each of which reads on
/// to its end, would take the square of that.
const MOST_MATCHES: usize = 256;

/// The name that people give a task, as in `PROJ-123`: up to 64 ASCII letters, digits, `-`, `_` and
/// `.`, in capitals.
///
/// `story-456` and `#456` both mean 456.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey(String);

impl TaskKey {
    /// Parses a key as people write it; `None` if it is invalid, or has the form of a task's id.
    pub fn parse(text: &str) -> Option<Self> {
        let capitals = text.trim().to_ascii_uppercase();
        let number = capitals
            .strip_prefix('#')
            .or_else(|| capitals.strip_prefix("STORY-"));
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let key = number.filter(is_number).unwrap_or(&capitals);
        let is_plain = key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let is_name = key.bytes().any(|byte| byte.is_ascii_alphanumeric());
        (is_plain && is_name && key.len() <= LONGEST_KEY && Uuid::parse_str(key).is_err())
            .then(|| Self(key.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why patterns are refused.
#[derive(Debug, Error)]
pub enum BadPatterns {
    #[error("{0} patterns are too many, {MOST_PATTERNS} are allowed")]
    TooMany(usize),
    #[error("the pattern `{0}` is longer than {LONGEST_PATTERN} bytes")]
    TooLong(String),
    #[error("the pattern `{0}` matches where there is nothing")]
    Empty(String),
    #[error("the pattern `{pattern}` is wrong: {why}")]
    Wrong { pattern: String, why: String },
}

/// The patterns that link pull requests to tasks: regular expressions, of which the first group is
/// the key, or the whole match if there is no group.
///
/// A key ends where no ASCII letter or digit goes on, and no `.1` either: `XPROJ-1a` and `TLS-1.2`
/// name nothing, while `fix_PROJ-1_now` and `修正PROJ-1です` do. A text of the form of a key, such as
/// `UTF-8`, counts as one: it links nothing as long as no task has that key.
#[derive(Clone, Debug)]
pub struct Patterns {
    exact: Vec<Regex>,
    /// The same without regard to case: many write branches in lower case.
    of_branches: Vec<Regex>,
}

impl Patterns {
    /// The patterns of the default settings.
    pub const DEFAULT: &str = r"[A-Z][A-Z0-9]+-\d+ story-(\d+)";

    /// Parses patterns that are separated by white space.
    ///
    /// # Errors
    /// [`BadPatterns`], with the refused pattern.
    pub fn parse(text: &str) -> Result<Self, BadPatterns> {
        Self::new(&text.split_ascii_whitespace().collect::<Vec<_>>())
    }

    /// # Errors
    /// [`BadPatterns`], with the refused pattern.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, BadPatterns> {
        if patterns.len() > MOST_PATTERNS {
            return Err(BadPatterns::TooMany(patterns.len()));
        }
        let compiled = |ignores_case| {
            let patterns = patterns.iter();
            patterns
                .map(|pattern| delimited(pattern.as_ref(), ignores_case))
                .collect::<Result<_, _>>()
        };
        Ok(Self {
            exact: compiled(false)?,
            of_branches: compiled(true)?,
        })
    }

    /// Returns the keys that the known texts of a pull request name.
    pub fn named_by(&self, pull_request: &PullRequest, bots: &Bots) -> BTreeSet<TaskKey> {
        let [branch, title, body] = texts(pull_request, bots).map(Option::unwrap_or_default);
        self.keys(branch, title, body)
    }

    /// Returns the keys that a pull request names in its branch, title or body, at most
    /// [`MOST_KEYS`]: in its branch in any case, in its body as text and neither in code nor in a
    /// comment. Takes time in proportion to the text: only the first 64 KiB of each and a bounded
    /// number of matches are read.
    pub fn keys(&self, branch: &str, title: &str, body: &str) -> BTreeSet<TaskKey> {
        let body = within_limit(body);
        // Most bodies name nothing, and need not be read as Markdown.
        let body = match found(&self.exact, body).next() {
            Some(_) => prose(body),
            None => String::new(),
        };
        let texts = [
            (&self.of_branches, branch),
            (&self.exact, title),
            (&self.exact, &body),
        ];
        let mut keys = BTreeSet::new();
        for (patterns, text) in texts {
            for key in found(patterns, text) {
                if keys.len() == MOST_KEYS {
                    return keys;
                }
                keys.extend(TaskKey::parse(key));
            }
        }
        keys
    }
}

fn within_limit(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

/// Returns the matches of `patterns` in the beginning of `text`.
fn found<'a>(patterns: &'a [Regex], text: &'a str) -> impl Iterator<Item = &'a str> {
    let share = MOST_MATCHES / patterns.len().max(1);
    let matches = move |pattern| Matches {
        pattern,
        text: within_limit(text),
        at: 0,
    };
    patterns
        .iter()
        .flat_map(move |pattern| matches(pattern).take(share))
}

/// Returns the texts in which a pull request names tasks: its branch, its title, its body. The body
/// of a bot's is none of them: it quotes the texts of others, such as the notes of a release.
pub fn texts<'a>(pull_request: &'a PullRequest, bots: &Bots) -> [Option<&'a str>; 3] {
    let talk = pull_request.conversation.as_ref().map(|dated| &dated.value);
    let author = pull_request.author.as_ref().map(|dated| &dated.value.0);
    let is_bot = author.is_some_and(|author| bots.contains(author));
    let branch = pull_request
        .branches
        .as_ref()
        .map(|dated| dated.value.head_ref.as_str());
    [
        branch,
        talk.and_then(|talk| talk.title.as_deref()),
        talk.and_then(|talk| talk.body.as_deref())
            .filter(|_| !is_bot),
    ]
}

/// The pattern with what may stand around it; group 1 is all of it, the pattern's own groups
/// follow.
fn delimited(pattern: &str, ignores_case: bool) -> Result<Regex, BadPatterns> {
    if pattern.len() > LONGEST_PATTERN {
        return Err(BadPatterns::TooLong(pattern.to_owned()));
    }
    let compiled = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(LARGEST_PATTERN)
            .case_insensitive(ignores_case)
            .build()
            .map_err(|error| {
                // The lines before the last one show the position.
                let why = error
                    .to_string()
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                BadPatterns::Wrong {
                    pattern: pattern.to_owned(),
                    why,
                }
            })
    };
    // Compiled alone first: an invalid pattern might become valid within the parentheses below.
    if compiled(pattern)?.is_match("") {
        return Err(BadPatterns::Empty(pattern.to_owned()));
    }
    compiled(&format!(
        r"(?:^|[^0-9A-Za-z])({pattern})(?:$|[^0-9A-Za-z.]|\.(?:$|[^0-9]))"
    ))
}

/// The keys in a text, one after the other: the character that ends one may begin the next.
struct Matches<'a> {
    pattern: &'a Regex,
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Matches<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let found = self.pattern.captures_at(self.text, self.at)?;
        let (all, whole) = (found.get(0)?, found.get(1)?);
        // A key without letters must not be found again, for ever.
        self.at = if whole.end() > self.at {
            whole.end()
        } else {
            all.end()
        };
        (!all.is_empty()).then(|| found.get(2).unwrap_or(whole).as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(patterns: &[&str], text: &str) -> Vec<String> {
        let keys = Patterns::new(patterns).unwrap().keys("", text, "");
        keys.into_iter().map(|key| key.0).collect()
    }

    #[test]
    fn keys_are_found_where_people_write_them() {
        for (text, found) in [
            ("PROJ-123", &["PROJ-123"][..]),
            ("feature/PROJ-123-sort-the-queue", &["PROJ-123"]),
            ("fix_PROJ-1_now", &["PROJ-1"]),
            ("修正PROJ-1です", &["PROJ-1"]),
            (
                "(PROJ-1), [PROJ-2]: PROJ-3.",
                &["PROJ-1", "PROJ-2", "PROJ-3"],
            ),
            ("PROJ-1 PROJ-2 PROJ-1", &["PROJ-1", "PROJ-2"]),
            ("story-456/rename and story-7.", &["456", "7"]),
            ("https://example.com/browse/OPS2-9?focus=1", &["OPS2-9"]),
            ("XPROJ-1a aPROJ-1 P-1 proj-1 PROJ- PROJ-x", &[]),
            ("TLS-1.2 history-7 story-7b", &[]),
            ("", &[]),
        ] {
            let default: Vec<_> = Patterns::DEFAULT.split(' ').collect();
            assert_eq!(keys(&default, text), found, "{text}");
        }
    }

    #[test]
    fn branches_name_keys_in_any_case() {
        let patterns = Patterns::parse(Patterns::DEFAULT).unwrap();
        for (branch, found) in [
            ("proj-12-fix", "PROJ-12"),
            ("feature/Proj-12_fix", "PROJ-12"),
            ("Story-456/rename", "456"),
            ("xproj-12fix", ""),
        ] {
            let keys = patterns.keys(branch, "proj-77", "proj-78");
            let keys: Vec<_> = keys.iter().map(TaskKey::as_str).collect();
            assert_eq!(keys.join(" "), found, "{branch}");
        }
    }

    #[test]
    fn the_first_group_is_the_key_and_spellings_of_one_key_are_one() {
        assert_eq!(keys(&[r"#(\d+)"], "Fixes #456, story-9"), ["456"]);
        assert_eq!(
            keys(
                &[r"#\d+", r"(?i)story-\d+", r"story-(\d+)"],
                "#456 Story-456 story-456"
            ),
            ["456"]
        );
        assert_eq!(keys(&["(?i)ab-[0-9]+"], "ab-1 AB-1"), ["AB-1"]);
        assert_eq!(
            keys(&[r"x-(?:a(\d)|b(\d))"], "x-a1 x-b2"),
            ["1", "X-B2"],
            "a group that is not there is no key"
        );
    }

    #[test]
    fn a_key_is_what_a_path_can_carry() {
        let parsed = |text: &str| TaskKey::parse(text).map(|key| key.0);
        for (text, key) in [
            ("proj-123", "PROJ-123"),
            (" #456 ", "456"),
            ("Story-456", "456"),
            ("story-board", "STORY-BOARD"),
            ("v1.2_x", "V1.2_X"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(key));
        }
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for none in [
            "",
            "#",
            "story-",
            "..",
            "a/b",
            "a b",
            "é-1",
            "#a",
            "a\nb",
            id,
            &"a".repeat(65),
        ] {
            assert_eq!(parsed(none), None, "{none}");
        }
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let long = "a".repeat(LONGEST_PATTERN + 1);
        for (pattern, why) in [
            ("(", "unclosed"),
            ("a)(b", "unopened"),
            (r"(\w{100}){100}", "size limit"),
            ("x*", "where there is nothing"),
            (long.as_str(), "longer than"),
            (r"(?=x)", "look-around"),
        ] {
            let error = Patterns::new(&["ok", pattern]).unwrap_err().to_string();
            assert!(error.contains(pattern) && error.contains(why), "{error}");
        }
        assert!(matches!(
            Patterns::new(&["a"; MOST_PATTERNS + 1]),
            Err(BadPatterns::TooMany(17))
        ));
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_the_branch_comes_first() {
        let body: String = (0..10_000).map(|number| format!("AA-{number} ")).collect();
        let found = Patterns::parse(Patterns::DEFAULT)
            .unwrap()
            .keys("ZZ-1", "YY-1", &body);
        assert_eq!(found.len(), MOST_KEYS);
        for first in ["ZZ-1", "YY-1"] {
            assert!(found.contains(&TaskKey::parse(first).unwrap()), "{found:?}");
        }
    }

    proptest! {
        /// Terminates for any text, even if a pattern matches only empty texts.
        #[test]
        fn any_text_is_read_to_its_end(text in r"[A-Z0-9é \-#.\n]{0,80}") {
            for pattern in [r"\b", r"[A-Z][A-Z0-9]+-\d+", r"#(\d+)", "$|x", r"(?m)^|-"] {
                if let Ok(patterns) = Patterns::new(&[pattern]) {
                    prop_assert!(patterns.keys(&text, &text, &text).len() <= MOST_KEYS);
                }
            }
        }
    }
}
