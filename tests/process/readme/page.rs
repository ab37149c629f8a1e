//! Pages of the documentation as the tests read them: code, links, anchors and tables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A page of the documentation.
pub(super) struct Page {
    /// From the root of the repository.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A code span, or a line of a code block with its continuations.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) text: String,
    /// The word behind the fence of its block; `None` for a span.
    pub(super) language: Option<String>,
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(super) fn pages() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    collect_files(Path::new("docs"), &mut paths).unwrap();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    paths.sort();
    assert!(paths.len() > 20, "{paths:?}");
    paths
        .iter()
        .map(|path| page(path.to_str().unwrap()))
        .collect()
}

pub(super) fn collect_files(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root().join(folder))? {
        let path = folder.join(entry?.file_name());
        if root().join(&path).is_dir() {
            collect_files(&path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

impl Page {
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The code of the page, in order.
    pub(super) fn code(&self) -> Vec<Code> {
        let mut code: Vec<Code> = Vec::new();
        let mut language: Option<String> = None;
        let mut continued = false;
        for line in self.text.lines() {
            match (line.strip_prefix("```"), &language) {
                (Some(_), Some(_)) => language = None,
                (Some(opened), None) => language = Some(opened.to_owned()),
                (None, Some(_)) => {
                    let text = line.trim_end_matches('\\').trim();
                    match code.last_mut().filter(|_| continued) {
                        Some(last) => last.text = format!("{} {text}", last.text),
                        None => code.push(Code {
                            text: text.to_owned(),
                            language: language.clone(),
                        }),
                    }
                    continued = line.ends_with('\\');
                }
                (None, None) => code.extend(spans(line).map(|text| Code {
                    text: text.to_owned(),
                    language: None,
                })),
            }
        }
        assert!(
            language.is_none(),
            "{}: a code block has no end",
            self.name()
        );
        code
    }

    /// The whole blocks of a language.
    pub(super) fn blocks(&self, language: &str) -> Vec<&str> {
        let opening = format!("\n```{language}\n");
        let blocks = self.text.split(&opening).skip(1);
        blocks
            .map(|rest| rest.split("\n```").next().unwrap_or_default())
            .collect()
    }

    /// The lines outside of code blocks.
    fn prose(&self) -> String {
        let parts = self.text.split("\n```").step_by(2);
        parts.collect::<Vec<_>>().join("\n")
    }

    /// The anchors of its headings.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings
            .filter_map(|line| line.split_once(' '))
            .map(|(_, text)| anchor(text))
            .collect()
    }

    /// Its links, as text and target. Those of code spans are none.
    pub(super) fn links(&self) -> Vec<(String, String)> {
        let prose = self.prose();
        let ends: Vec<_> = prose.match_indices("](").map(|(place, _)| place).collect();
        let link = |end: usize| {
            let text = prose[..end].rsplit('[').next()?;
            let target = prose[end + 2..].split(')').next()?;
            let inside_code = prose[..end - text.len()]
                .rsplit('\n')
                .next()?
                .matches('`')
                .count()
                % 2
                == 1;
            (!inside_code).then(|| (text.to_owned(), target.to_owned()))
        };
        ends.into_iter().filter_map(link).collect()
    }

    /// The items of source files that its links name.
    pub(super) fn linked_items(&self) -> BTreeSet<String> {
        let links = self
            .links()
            .into_iter()
            .filter(|(_, target)| target.ends_with(".rs"));
        links
            .map(|(text, _)| text.trim_matches('`').to_owned())
            .collect()
    }

    /// The file that a link's target names, from the root of the repository.
    pub(super) fn resolve(&self, target: &str) -> PathBuf {
        let mut path = self.path.parent().unwrap_or(Path::new("")).to_owned();
        for part in Path::new(target).components() {
            match part {
                std::path::Component::ParentDir => assert!(
                    path.pop(),
                    "{}: {target} leaves the repository",
                    self.name()
                ),
                part => path.push(part),
            }
        }
        path
    }

    /// The first cells of the tables below `heading`.
    pub(super) fn first_cells(&self, heading: &str) -> Vec<&str> {
        let (_, section) = self
            .text
            .split_once(&format!("\n{heading}\n"))
            .unwrap_or_else(|| panic!("no {heading}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        rows.filter_map(|row| row.split('`').nth(1)).collect()
    }
}

pub(super) fn page(path: &str) -> Page {
    Page {
        path: PathBuf::from(path),
        text: file(path),
    }
}

fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || ['-', '_'].contains(letter))
        .collect()
}

/// `src/{a,b}.rs` as `src/a.rs` and `src/b.rs`.
pub(super) fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (names, after) = rest.split_once('}').unwrap_or((rest, ""));
    names
        .split(',')
        .map(|name| format!("{before}{name}{after}"))
        .collect()
}

impl Page {
    /// The code in the links of its first table.
    pub(super) fn first_code_of_links(&self) -> BTreeSet<String> {
        let rows = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("| [`"));
        rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
            .collect()
    }
}
