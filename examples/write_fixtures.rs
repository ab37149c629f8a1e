//! Writes `fixtures/` from the story in `write_fixtures/`: `cargo run --example write_fixtures`.
//!
//! With `--check` nothing is written; the exit code is 1 if a file differs from the story. The
//! answers in `*.expected.json` are literals of the story, worked out by hand: they are what
//! Tallyhook is held to, so nothing here computes them. [`expected::Expected::assert_consistent`]
//! only checks that they add up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

#[path = "write_fixtures/chapter.rs"]
mod chapter;
#[path = "write_fixtures/expected.rs"]
mod expected;
#[path = "write_fixtures/team.rs"]
mod team;
#[path = "write_fixtures/week_one.rs"]
mod week_one;
#[path = "write_fixtures/week_three.rs"]
mod week_three;
#[path = "write_fixtures/week_two.rs"]
mod week_two;

fn main() -> io::Result<ExitCode> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let files = story_files();
    if std::env::args().any(|argument| argument == "--check") {
        return check(&folder, &files);
    }
    fs::create_dir_all(&folder)?;
    for path in left_over(&folder, &files)? {
        fs::remove_file(path)?;
    }
    for (name, text) in &files {
        fs::write(folder.join(name), text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every file of the story by its name, with its text.
fn story_files() -> BTreeMap<String, String> {
    let team = team::Team::new();
    let mut files = BTreeMap::new();
    for (chapter, expected) in week_one::chapters(&team)
        .into_iter()
        .chain(week_two::chapters(&team))
        .chain(week_three::chapters(&team))
    {
        let name = chapter.file_name();
        expected.assert_consistent(&chapter.pr);
        files.insert(format!("{name}.jsonl"), chapter.json_lines());
        files.insert(
            format!("{name}.expected.json"),
            expected.to_json(&chapter.pr),
        );
    }
    files
}

fn check(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<ExitCode> {
    let mut differing = left_over(folder, files)?;
    for (name, text) in files {
        let path = folder.join(name);
        match fs::read_to_string(&path) {
            Ok(on_disk) if on_disk == *text => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => differing.push(path),
        }
    }
    for path in &differing {
        eprintln!("differs from the story: {}", path.display());
    }
    Ok(if differing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Fixtures on disk that the story no longer has. Other files, such as the README, are not ours.
fn left_over(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_fixture = name.ends_with(".jsonl") || name.ends_with(".expected.json");
        if is_fixture && !files.contains_key(&name) {
            left.push(folder.join(name));
        }
    }
    left.sort();
    Ok(left)
}
