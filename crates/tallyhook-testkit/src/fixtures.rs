//! The shipped fixtures, and deliveries recorded from GitHub.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A delivery of the shipped fixtures.
pub struct Fixture {
    pub event: String,
    pub guid: String,
    pub delivered_at: String,
    pub payload: Vec<u8>,
}

/// Returns every delivery of the shipped fixtures by time of delivery.
pub fn fixtures() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for path in fixture_files("jsonl") {
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let delivery: Value = serde_json::from_str(line).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            fixtures.push(Fixture {
                event: text(&delivery["event"]),
                guid: text(&delivery["guid"]),
                delivered_at: text(&delivery["delivered_at"]),
                payload: delivery["request"]["payload"].to_string().into_bytes(),
            });
        }
    }
    fixtures.sort_by(|one, two| one.delivered_at.cmp(&two.delivered_at));
    fixtures
}

/// Returns the files of the fixtures folder with this extension, sorted by name.
pub fn fixture_files(ending: &str) -> Vec<PathBuf> {
    let folder = root().join("fixtures");
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(&format!(".{ending}")))
        .collect();
    files.sort();
    files
}

/// Returns the folder of deliveries recorded from GitHub. Panics where there is none: a test that
/// needs them must not pass without.
pub fn recorded_data() -> PathBuf {
    let configured = std::env::var_os("TALLYHOOK_GITHUB_DATA").map(PathBuf::from);
    let folder = configured.unwrap_or_else(|| root().join("../shared/github-data"));
    assert!(
        folder.is_dir(),
        "there is no recorded GitHub data at {}: build without the feature `recorded`",
        folder.display()
    );
    folder
}
