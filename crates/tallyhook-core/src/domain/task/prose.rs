//! The part of a Markdown body that its author wrote as text.

use std::ops::Range;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag};

/// The quotes and lists in one another at the beginning of a line. Depth over several lines takes the
/// square of it in bytes.
const DEEPEST: usize = 50;

/// The beginnings of HTML whose content is hidden or code, and the ends.
const HIDDEN: [(&str, &str); 3] = [("<!--", "-->"), ("<pre", "</pre"), ("<code", "</code")];

/// Returns whether a line begins with more quotes and lists than a person nests.
fn is_deep(line: &str) -> bool {
    let (mut before, mut depth) = (b'\n', 0);
    for byte in line
        .bytes()
        .take_while(|byte| b" \t>+-*.)0123456789".contains(byte))
    {
        let ends_marker = b" \t".contains(&byte) && b"+-*.)".contains(&before);
        depth += usize::from(byte == b'>' || ends_marker);
        before = byte;
    }
    depth > DEEPEST
}

/// Returns `body` without code, HTML comments and definitions of links that it does not use. GitHub
/// links nothing in them, and templates explain themselves there. A body that is nested deeper than a
/// person writes is all text: reading it as Markdown would take quadratic time.
pub(super) fn prose(body: &str) -> String {
    if body.lines().any(is_deep) {
        return body.to_owned();
    }
    let parser = Parser::new_ext(body, Options::empty());
    let definitions = parser.reference_definitions().iter();
    let mut hidden: Vec<_> = definitions.map(|(_, link)| link.span.clone()).collect();
    let (mut html, mut targets) = (HiddenHtml::new(body), Vec::new());
    for (event, range) in parser.into_offset_iter() {
        match event {
            Event::Code(_) | Event::Start(Tag::CodeBlock(_)) => hidden.push(range),
            Event::InlineHtml(_) | Event::Start(Tag::HtmlBlock) => html.search(range, &mut hidden),
            Event::Start(Tag::Link {
                link_type: LinkType::Reference | LinkType::Collapsed | LinkType::Shortcut,
                dest_url,
                ..
            }) => targets.push(dest_url),
            _ => {}
        }
    }
    hidden.sort_unstable_by_key(|range| range.start);
    let (mut text, mut at) = (String::with_capacity(body.len()), 0);
    for range in hidden {
        // A line's end, so that the texts on both sides do not become one word.
        text.push_str(body.get(at..range.start).unwrap_or_default());
        text.push('\n');
        at = at.max(range.end);
    }
    text.push_str(body.get(at..).unwrap_or_default());
    for target in targets {
        text.push('\n');
        text.push_str(&target);
    }
    text
}

/// A search for what HTML hides. It takes time in proportion to the body, however many beginnings
/// there are.
struct HiddenHtml {
    /// In lower case; positions are those of the body.
    body: String,
    /// The position up to which the body was searched.
    at: usize,
    /// The end does not occur behind `at`.
    is_endless: [bool; HIDDEN.len()],
}

impl HiddenHtml {
    fn new(body: &str) -> Self {
        Self {
            body: body.to_ascii_lowercase(),
            at: 0,
            is_endless: [false; HIDDEN.len()],
        }
    }

    /// Adds what is hidden from a beginning in `html` on. It may end behind `html`: Markdown ends a
    /// block of HTML at an empty line.
    fn search(&mut self, html: Range<usize>, hidden: &mut Vec<Range<usize>>) {
        self.at = self.at.max(html.start);
        while let Some((start, kind)) = self.beginning(html.end) {
            let (open, close) = HIDDEN[kind];
            let inside = start + open.len();
            let end = match self.body.get(inside..) {
                Some(rest) if !self.is_endless[kind] => rest.find(close),
                _ => None,
            };
            self.is_endless[kind] |= end.is_none();
            let end = end.map_or(html.end, |end| inside + end + close.len());
            hidden.push(start..end);
            self.at = end;
        }
        self.at = self.at.max(html.end);
    }

    /// Returns the first beginning before `end`, and its place in [`HIDDEN`].
    fn beginning(&self, end: usize) -> Option<(usize, usize)> {
        let text = self.body.get(self.at..end)?;
        text.match_indices('<').find_map(|(place, _)| {
            let tag = &text[place..];
            let opens = |open: &str| {
                let rest = tag.strip_prefix(open);
                let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
                rest.is_some_and(|rest| open == "<!--" || !rest.starts_with(is_name))
            };
            let kind = HIDDEN.iter().position(|(open, _)| opens(open))?;
            Some((self.at + place, kind))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::task::Patterns;

    #[test]
    fn only_what_the_author_wrote_as_text_names_a_task() {
        let patterns = Patterns::parse(Patterns::DEFAULT).unwrap();
        for (body, found) in [
            ("Sorts.\r\n\r\n<!-- for example AB-1 -->\r\n", ""),
            ("<!--\nAB-1\n\nAB-2\n-->\nAB-3", "AB-3"),
            ("<!-- AB-1 --> AB-2 <!-- AB-3 -->", "AB-2"),
            ("<!-- AB-1, never ended", ""),
            ("see <!-- AB-1 --> AB-2", "AB-2"),
            (
                "<details>\n<!-- AB-1\n\nAB-2\n-->\n\nAB-3</details>",
                "AB-3",
            ),
            ("```\nAB-1\n```\nAB-2", "AB-2"),
            ("~~~ruby\nAB-1\n\n    AB-2", ""),
            ("- item\n  ```\n  AB-1\n  ```\n- AB-2", "AB-2"),
            ("> ```\n> AB-1\n> ```\n> AB-2", "AB-2"),
            ("text\n\n    AB-1\n\nAB-2", "AB-2"),
            ("text\n    AB-1", "AB-1"),
            ("`AB-1` and ``a ` AB-2`` and AB-3", "AB-3"),
            ("a `lone AB-1", "AB-1"),
            (r"\`AB-1\`", "AB-1"),
            ("`<!--` AB-1 `-->`", "AB-1"),
            ("<code>AB-1</code> <CODE class=x>AB-2</CODE> AB-3", "AB-3"),
            ("<pre>\nAB-1\n\nAB-2</pre>\n\nAB-3", "AB-3"),
            ("<details><summary>AB-1</summary>\n\nAB-2", "AB-1 AB-2"),
            ("[//]: # (AB-1)\n\nAB-2", "AB-2"),
            ("[x](https://example.com/AB-1)", "AB-1"),
            ("See [it].\n\n[it]: https://example.com/AB-1", "AB-1"),
            (
                "https://example.com/browse/AB-1 **AB-2** ~~AB-3~~",
                "AB-1 AB-2 AB-3",
            ),
        ] {
            let keys = patterns.keys("", "", body);
            let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
            assert_eq!(keys.join(" "), found, "{body}");
        }
        let nested = |depth: usize| format!("{}`AB-1`", "> ".repeat(depth));
        let is_named = |body: &str| !patterns.keys("", "", body).is_empty();
        assert!(!is_named(&nested(DEEPEST)) && is_named(&nested(DEEPEST + 1)));
        let keys = patterns.keys("", "`AB-1` <!-- AB-2 -->", "");
        assert_eq!(keys.len(), 2, "a title is no Markdown");
    }

    proptest! {
        #[test]
        fn any_body_is_read(body in r"([a-z<>`~\-!\[\]():/\\ \n#é]|<!--|-->|<code>|</code>|```){0,60}") {
            prop_assert!(prose(&body).len() <= 2 * body.len() + 2);
        }
    }
}
