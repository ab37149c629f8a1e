//! The rules of the house that the compiler cannot hold. The arrows between crates stand in their
//! `Cargo.toml`s; core's clock and surroundings in its `clippy.toml`.

use std::fs;
use std::path::Path;

use testkit::root;

/// The modules of the root package: each uses those before it only.
const ORDER: [&str; 20] = [
    "clock",
    "secrets",
    "config",
    "logging",
    "telemetry",
    "call_record",
    "leader",
    "incoming",
    "ingest",
    "notify",
    "process",
    "relay",
    "renumbering",
    "sync",
    "tasks",
    "doctor",
    "api",
    "dashboard",
    "app",
    "cli",
];

/// Words, where they are out of place, and where they are at home.
const OUT_OF_PLACE: [(&str, &str, &str); 7] = [
    ("env::var", "src/", "src/config/"),
    ("env::var", "crates/", "crates/tallyhook-testkit/"),
    ("github::payload", "src/", ""),
    // A page shows what one call of the API answers.
    ("tallyhook_store", "src/dashboard/", ""),
    ("todo!(", "", ""),
    ("unimplemented!(", "", ""),
    ("dbg!(", "", ""),
];

#[test]
fn every_file_keeps_the_rules() {
    let mut breaches = Vec::new();
    for folder in ["src", "crates", "tests", "examples", "benches"] {
        sources(&root().join(folder), &mut |path, text| {
            breaches.extend(breaches_of(path, text));
        });
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// Rows of the record of acts are added, and deleted when they are old. The database refuses changes,
/// too.
#[test]
fn record_of_acts_is_written_by_two_statements_alone() {
    let mut found = Vec::new();
    sources(
        &root().join("crates/tallyhook-store/src"),
        &mut |path, text| {
            for verb in [
                "INSERT INTO",
                "UPDATE",
                "DELETE FROM",
                "REPLACE INTO",
                "TRUNCATE",
            ] {
                let statement = format!("{verb} audit_events");
                found.extend(
                    text.matches(&statement)
                        .map(|text| format!("{path}: {text}")),
                );
            }
        },
    );
    let of = |verb: &str| format!("crates/tallyhook-store/src/audit/sql.rs: {verb} audit_events");
    assert_eq!(found, [of("INSERT INTO"), of("DELETE FROM")]);
}

/// A file that no `mod` names is compiled by nothing, and its tests are forgotten.
#[test]
fn every_file_of_tests_is_a_module_of_a_program() {
    let mut forgotten = Vec::new();
    for folder in ["tests", "crates/tallyhook-core/tests"] {
        sources(&root().join(folder), &mut |path, _| {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let (parent, name) = match name {
                // Cargo.toml names the programs.
                "main.rs" => return,
                "mod.rs" => parent.rsplit_once('/').unwrap(),
                _ => (parent, name.trim_end_matches(".rs")),
            };
            let declares = |face: &str| {
                let face = fs::read_to_string(root().join(parent).join(face));
                face.is_ok_and(|face| face.lines().any(|line| line == format!("mod {name};")))
            };
            if !declares("main.rs") && !declares("mod.rs") {
                forgotten.push(path.to_owned());
            }
        });
    }
    assert!(forgotten.is_empty(), "no `mod` for {forgotten:#?}");
}

fn breaches_of(path: &str, text: &str) -> Vec<String> {
    // Unit tests are the last of a file.
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let limit = if path.contains("tests/") { 900 } else { 600 };
    let length = code.lines().count();
    let mut breaches = Vec::new();
    if length > limit {
        breaches.push(format!("{path}: {length} lines; the limit is {limit}"));
    }
    let rank = |module: &str| ORDER.iter().position(|name| *name == module);
    let own = path
        .strip_prefix("src/")
        .and_then(|path| rank(path.split(['/', '.']).next()?));
    for (number, line) in (1..).zip(code.lines()) {
        let code = line.split("//").next().unwrap();
        for (word, place, home) in OUT_OF_PLACE {
            let at_home = !home.is_empty() && path.starts_with(home) || path == file!();
            if path.starts_with(place) && !at_home && code.contains(word) {
                breaches.push(format!("{path}:{number}: `{word}` is out of place"));
            }
        }
        let used = code
            .split("crate::")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_alphabetic()).next());
        for used in used
            .flatten()
            .filter(|used| own.is_some() && rank(used) > own)
        {
            breaches.push(format!(
                "{path}:{number}: `{used}` stands after this module in the order"
            ));
        }
    }
    breaches
}

/// Every Rust file below a folder, by its path from the root.
fn sources(folder: &Path, read: &mut impl FnMut(&str, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, read);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
            read(name, &fs::read_to_string(&path).unwrap());
        }
    }
}
