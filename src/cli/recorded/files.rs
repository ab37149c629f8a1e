//! The files of recordings: found once each, unpacked, and read as text.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;

use super::Recordings;
use super::shapes::Shape;
use super::values::{json_of, json_values, line_at};

/// The path that stands for standard input.
const STANDARD_INPUT: &str = "-";
/// The endings of recordings within a folder.
const ENDINGS: [&str; 4] = ["json", "jsonl", "ndjson", "gz"];

const OTHER_ENDING: &str = "files with another ending than .json, .jsonl, .ndjson or .gz";
const OTHER_FOLDER: &str = "folders that are hidden or of packages";
const NO_JSON: &str = "files that are no JSON";
const EMPTY: &str = "empty files";
const NO_TARGET: &str = "links to nothing";

/// Reads every recording of `paths`, each file once, folders in the order of their files' names.
/// `event` is that of bare payloads.
///
/// # Errors
/// A given path that cannot be read. Of the content of folders, nothing is an error.
pub(in crate::cli) fn read_all(
    paths: &[PathBuf],
    event: Option<&str>,
) -> anyhow::Result<Recordings> {
    let mut reader = RecordingsReader {
        event,
        seen: HashSet::new(),
        found: Recordings::default(),
    };
    for path in paths {
        if path.as_os_str() == STANDARD_INPUT {
            let mut bytes = Vec::new();
            io::stdin()
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
            let file = RecordingFile {
                event,
                ..RecordingFile::new("standard input")
            };
            file.read_bytes(&bytes, &mut reader.found);
        } else if path.is_dir() {
            reader.read_folder(path)?;
        } else {
            let bytes =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            reader.read_file(path, &bytes, true);
        }
    }
    Ok(reader.found)
}

struct RecordingsReader<'a> {
    event: Option<&'a str>,
    /// The files and folders that were read, without links.
    seen: HashSet<PathBuf>,
    found: Recordings,
}

impl RecordingsReader<'_> {
    /// Returns true for a file or folder that no earlier path or link led to.
    fn is_new(&mut self, path: &Path) -> bool {
        self.seen
            .insert(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
    }

    fn read_folder(&mut self, folder: &Path) -> anyhow::Result<()> {
        if !self.is_new(folder) {
            return Ok(());
        }
        let unreadable = || format!("cannot read the folder {}", folder.display());
        let entries = std::fs::read_dir(folder).with_context(unreadable)?;
        let mut entries: Vec<_> = entries.collect::<Result<_, _>>().with_context(unreadable)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let place = || path.display().to_string();
            let ending = path.extension().map(OsStr::to_ascii_lowercase);
            if path.is_dir() {
                if name == "node_modules" || name.as_encoded_bytes().starts_with(b".") {
                    self.found.leave_out(OTHER_FOLDER, place);
                } else if let Err(error) = self.read_folder(&path) {
                    self.found.damage(format!("{error:#}"));
                }
            } else if !ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
                self.found.leave_out(OTHER_ENDING, place);
            } else {
                match std::fs::read(&path) {
                    Ok(bytes) => self.read_file(&path, &bytes, false),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.found.leave_out(NO_TARGET, place);
                    }
                    Err(error) => self.found.damage(format!("{}: {error}", place())),
                }
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path, bytes: &[u8], is_named: bool) {
        if self.is_new(path) {
            let name = path.display().to_string();
            let file = RecordingFile {
                name: &name,
                path: Some(path),
                event: self.event,
                is_named,
            };
            file.read_bytes(bytes, &mut self.found);
        }
    }
}

/// A file of recordings.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordingFile<'a> {
    pub(super) name: &'a str,
    pub(super) path: Option<&'a Path>,
    /// The event of bare payloads, if it is given.
    pub(super) event: Option<&'a str>,
    /// A file that was named has to be one; a file of a folder may be anything.
    pub(super) is_named: bool,
}

impl<'a> RecordingFile<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        Self {
            name,
            path: None,
            event: None,
            is_named: true,
        }
    }

    fn read_bytes(&self, bytes: &[u8], found: &mut Recordings) {
        let mut unpacked = Vec::new();
        let (mut bytes, mut damage) = (bytes, None);
        if bytes.starts_with(b"\x1f\x8b") {
            if let Err(error) = MultiGzDecoder::new(bytes).read_to_end(&mut unpacked) {
                damage = Some(format!(
                    "{}: cannot be unpacked to its end: {error}",
                    self.name
                ));
            }
            bytes = &unpacked;
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if let Some(format) = foreign_format(bytes) {
            found.damage(format!("{} is {format}", self.name));
            return;
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let (valid, _) = bytes.split_at(error.valid_up_to());
                let valid = std::str::from_utf8(valid).unwrap_or_default();
                if error.error_len().is_some() {
                    let line = line_at(valid, valid.len());
                    damage = Some(format!("{} line {line}: no UTF-8 from here on", self.name));
                }
                valid
            }
        };
        self.read_text(text, damage, found);
    }

    /// Reads the deliveries of a text. `damage` is that of the file behind the text.
    pub(super) fn read_text(&self, text: &str, damage: Option<String>, found: &mut Recordings) {
        let json = json_of(text);
        let read = json_values(&json);
        let mut shapes = Vec::new();
        for value in &read.values {
            self.read_value(value, 0, &mut shapes);
        }
        let place = |value: &RawValue| match shapes.len() {
            1 => self.name.to_owned(),
            _ => format!("{} line {}", self.name, line_of(value, &json)),
        };
        let mut has_delivery = false;
        for (value, shape) in &shapes {
            if let Shape::Other(kind) = shape {
                found.leave_out(kind, || place(value));
            }
        }
        for (_, shape) in shapes {
            if let Shape::Delivery(delivery) = shape {
                found.deliveries.push(delivery);
                has_delivery = true;
            }
        }
        let is_recording = self.is_named || has_delivery;
        if text.trim().is_empty() && damage.is_none() {
            found.leave_out(EMPTY, || self.name.to_owned());
        } else if !is_recording && !read.damages.iter().any(|damage| damage.is_cut_off) {
            if !read.damages.is_empty() {
                found.leave_out(NO_JSON, || self.name.to_owned());
            }
        } else {
            for torn in read.damages {
                let what = if torn.is_cut_off {
                    "the JSON is cut off"
                } else {
                    "this is no JSON"
                };
                found.damage(format!("{} line {}: {what}", self.name, torn.line));
            }
        }
        if let Some(damage) = damage {
            found.damage(damage);
        }
    }
}

/// Returns the first line of a part of `text`.
fn line_of(part: &RawValue, text: &str) -> usize {
    let offset = part.get().as_ptr() as usize - text.as_ptr() as usize;
    line_at(text, offset)
}

/// Returns the words for a file in a format that is not read.
fn foreign_format(bytes: &[u8]) -> Option<&'static str> {
    let is_utf16 = matches!(
        bytes,
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, _, ..] | [_, 0, ..]
    );
    let packed: [&[u8]; 4] = [b"PK\x03\x04", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"];
    if is_utf16 {
        Some("UTF-16 text: save it as UTF-8, such as with `iconv -f UTF-16 -t UTF-8`")
    } else if packed.iter().any(|start| bytes.starts_with(start)) {
        Some("an archive other than gzip: unpack it first")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn delivery(number: u64) -> String {
        format!(
            r#"{{"guid":"{number}","event":"push","request":{{"headers":null,"payload":{{"number":{number}}}}}}}"#
        )
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn guids(found: &Recordings) -> Vec<&str> {
        let guids = found.deliveries.iter();
        guids.map(|delivery| delivery.guid.as_str()).collect()
    }

    #[test]
    fn text_is_found_behind_marks_and_compression() {
        let [one, two, torn] = [1, 2, 3].map(delivery);
        let marked = format!("\u{feff}{one}\r\n{two}\r\n");
        let two_members = [gzip(&format!("{one}\n")), gzip(&two)].concat();
        let half_letter = [format!("{one}\n{two}\n{}", &torn[..20]).as_bytes(), b"\xc3"].concat();
        let half_packed = gzip(&format!("{one}\n{two}\n{}", torn.repeat(500)));
        let half_packed = &half_packed[..half_packed.len() - 9];
        for (bytes, damaged) in [
            (marked.as_bytes(), None),
            (&two_members, None),
            (&half_letter, Some("x line 3: the JSON is cut off")),
            (half_packed, Some("x: cannot be unpacked to its end")),
        ] {
            let mut found = Recordings::default();
            RecordingFile::new("x").read_bytes(bytes, &mut found);
            assert_eq!(guids(&found)[..2], ["1", "2"]);
            let remarks = found.problems().collect::<Vec<_>>().join("\n");
            assert_eq!(remarks.is_empty(), damaged.is_none(), "{remarks}");
            assert!(remarks.contains(damaged.unwrap_or_default()), "{remarks}");
        }
        let utf16: Vec<_> = one.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, words) in [
            (&utf16[..], "UTF-16"),
            (b"PK\x03\x04...", "unpack it first"),
            (b"{}\n\xff", "line 2: no UTF-8"),
            (b"<html>", "line 1: this is no JSON"),
            (b"", "empty"),
        ] {
            let mut found = Recordings::default();
            RecordingFile::new("x").read_bytes(bytes, &mut found);
            let remarks = found.problems().collect::<Vec<_>>().join("\n");
            assert!(
                remarks.contains(words) && guids(&found).is_empty(),
                "{remarks}"
            );
        }
    }

    #[test]
    fn folder_gives_each_recording_once_and_names_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        fs::create_dir_all(path("node_modules/x")).unwrap();
        fs::create_dir_all(path(".git")).unwrap();
        fs::create_dir_all(path("b")).unwrap();
        write("node_modules/x/1.json", &delivery(1));
        write("a.JSON", &delivery(2));
        write("b/c.jsonl", &format!("{}\n{}\n", delivery(3), delivery(4)));
        fs::write(path("d.ndjson.gz"), gzip(&delivery(5))).unwrap();
        write("e.json", "{ // a comment\n}");
        write("empty.json", " \n");
        write("package.json", r#"{"name":"x"}"#);
        write("README.md", "# x");
        symlink(".", path("self")).unwrap();
        symlink("a.JSON", path("z.json")).unwrap();
        symlink("/nowhere", path("gone.json")).unwrap();
        let all = [folder.path().to_owned(), path("a.JSON")];
        let found = read_all(&all, None).unwrap();
        assert_eq!(guids(&found), ["2", "3", "4", "5"]);
        assert_eq!(found.damaged, [""; 0]);
        let counts: Vec<_> = found
            .left_out
            .iter()
            .map(|(kind, left)| (*kind, left.count))
            .collect();
        assert_eq!(
            counts,
            [
                (EMPTY, 1),
                (NO_JSON, 1),
                (OTHER_ENDING, 1),
                (OTHER_FOLDER, 2),
                (NO_TARGET, 1),
                ("objects that are no delivery", 1),
            ]
        );
        write("torn.json", &delivery(6)[..30]);
        let found = read_all(&all[..1], None).unwrap();
        assert_eq!(guids(&found), ["2", "3", "4", "5"]);
        assert!(
            found.damaged[0].ends_with("torn.json line 1: the JSON is cut off"),
            "{:?}",
            found.damaged
        );
        assert!(read_all(&[path("none.json")], None).is_err());
    }
}
