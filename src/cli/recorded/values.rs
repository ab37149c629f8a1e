//! The JSON values of a text: one, or many behind each other, in one of the forms in which people
//! have them.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The values of a text, and the places at which it is no JSON.
#[derive(Debug, Default)]
pub(super) struct JsonValues<'t> {
    pub(super) values: Vec<&'t RawValue>,
    pub(super) damages: Vec<JsonDamage>,
}

/// A place at which a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JsonDamage {
    /// The line of the error; of a value that is cut off, its first line.
    pub(super) line: usize,
    /// The text ends within the value.
    pub(super) is_cut_off: bool,
}

/// Returns the JSON within `text`: of an event stream its data, of a form its field `payload`, of
/// any other text the text.
pub(super) fn json_of(text: &str) -> Cow<'_, str> {
    let start = text.trim_start();
    let is_stream = ["data:", "event:", "id:", "retry:", ":"]
        .iter()
        .any(|field| start.starts_with(field));
    if is_stream {
        // Every line keeps its number.
        let data = text.lines().map(|line| line.strip_prefix("data:"));
        let data: Vec<_> = data.map(Option::unwrap_or_default).collect();
        return data.join("\n").into();
    }
    if start.starts_with("payload=") {
        let mut fields = form_urlencoded::parse(start.trim_end().as_bytes());
        let payload = fields.find(|(name, _)| name == "payload");
        return payload.map_or_else(|| text.into(), |(_, value)| value);
    }
    text.into()
}

/// Returns every value of `text`. Behind a damaged one it goes on with the next line that begins as
/// an object or an array does. Of a damaged array it gives the elements.
pub(super) fn json_values(text: &str) -> JsonValues<'_> {
    let mut found = JsonValues::default();
    // The damage of an array, until the element with it is found.
    let (mut array, mut is_in_array) = (None, false);
    let mut offset = 0;
    while offset < text.len() {
        let start = offset;
        let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter();
        let error = loop {
            match stream.next() {
                None => break None,
                Some(Ok(value)) => found.values.push(value),
                Some(Err(error)) => break Some(error),
            }
        };
        let Some(error) = error else { break };
        offset += stream.byte_offset();
        offset += text[offset..].len() - text[offset..].trim_start().len();
        let damage = JsonDamage {
            line: if error.is_eof() {
                line_at(text, offset)
            } else {
                // An error at a line's end is given as one of the next line.
                line_at(text, start) + error.line() - 1 - usize::from(error.column() == 0)
            },
            is_cut_off: error.is_eof(),
        };
        let damaged = &text[offset..];
        if damaged.starts_with('[') {
            (array, is_in_array) = (Some(damage), true);
        } else if !(damaged.starts_with('\u{feff}')
            || damaged.is_empty()
            || is_in_array && damaged.starts_with([',', ']']))
        {
            array = None;
            found.damages.push(damage);
        }
        offset = next_start(text, offset);
    }
    found.damages.extend(array);
    found
}

/// Returns the line at a byte of a text, counted from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// Returns the place behind the one at `offset`, where a value cannot be read.
fn next_start(text: &str, offset: usize) -> usize {
    let rest = &text[offset..];
    if rest.starts_with(['[', ',', ']']) {
        return offset + 1;
    }
    if rest.starts_with('\u{feff}') {
        return offset + '\u{feff}'.len_utf8();
    }
    let starts = rest.match_indices('\n').map(|(place, _)| place + 1);
    let mut starts = starts.filter(|start| rest[*start..].starts_with(['{', '[']));
    starts.next().map_or(text.len(), |start| offset + start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_read(text: &str, values: &[&str], damages: &[(usize, bool)]) {
        let found = json_values(text);
        let read: Vec<_> = found.values.iter().map(|value| value.get()).collect();
        assert_eq!(read, values, "{text:?}");
        let damages = damages.iter();
        let damages: Vec<_> = damages
            .map(|(line, is_cut_off)| JsonDamage {
                line: *line,
                is_cut_off: *is_cut_off,
            })
            .collect();
        assert_eq!(found.damages, damages, "{text:?}");
    }

    #[test]
    fn values_behind_each_other_are_read() {
        assert_read("", &[], &[]);
        assert_read(" \n", &[], &[]);
        assert_read("{}{}\r\n{}\r\n[1]", &["{}", "{}", "{}", "[1]"], &[]);
        assert_read("{}\n\u{feff}{}", &["{}", "{}"], &[]);
        assert_read("{\n\"a\": 1\n}\n{\n}\n", &["{\n\"a\": 1\n}", "{\n}"], &[]);
    }

    #[test]
    fn everything_whole_around_a_damage_is_read() {
        let one = "{\"b\":1}";
        assert_read("{}\n{\"a", &["{}"], &[(2, true)]);
        assert_read(
            &format!("{{}}\n{{\"a\n{one}\n"),
            &["{}", one],
            &[(2, false)],
        );
        assert_read(&format!("[{{}},{one},{{\"c"), &["{}", one], &[(1, true)]);
        assert_read(
            &format!("[\n{{}},\n{one},\n{{\"c"),
            &["{}", one],
            &[(4, true)],
        );
        assert_read(&format!("[{{}},{one}"), &["{}", one], &[(1, true)]);
        assert_read(
            "[\n{},\n{]\n{},\n{}\n]\n",
            &["{}", "{}", "{}"],
            &[(3, false)],
        );
        assert_read("// no JSON\nat all", &[], &[(1, false)]);
    }

    #[test]
    fn json_of_event_streams_and_forms_is_found() {
        let stream = "event: ready\ndata: {}\n\n: a comment\nid: 2\ndata:{\"a\":\ndata:1}\n";
        assert_eq!(json_of(stream), "\n {}\n\n\n\n{\"a\":\n1}");
        assert_eq!(json_of("payload=%7B%22a%22%3A1%7D&b=c\n"), "{\"a\":1}");
        assert_eq!(json_of(" {} "), " {} ");
    }
}
