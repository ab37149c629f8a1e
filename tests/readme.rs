//! The README, held to the program: settings, commands, paths, files and the demo's output are what it says they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tallyhook::config::{CHANNEL_KEYS, SETTINGS};

const README: &str = include_str!("../README.md");
const SCRIPT: &str = include_str!("../scripts/test");
const COMPOSE: &str = include_str!("../docker-compose.yml");

/// Upper-case words with an underscore that are no settings: what `telemetry` reads, what a reader has to fill in, and a
/// state of tasks.
const NO_SETTINGS: [&str; 4] = ["RUST_LOG", "HOOK_ID", "DELIVERY_ID", "CODE_REVIEWING"];

/// Absolute paths below these are files of the reader's machine, not of the server.
const FILE_ROOTS: [&str; 3] = ["/usr", "/var", "/etc"];

/// A code span, or a line of a code block with its continuations.
#[derive(Debug)]
struct Code {
    text: String,
    /// What stands behind the fence of its block; `None` for a span.
    language: Option<String>,
}

fn code() -> Vec<Code> {
    let mut code: Vec<Code> = Vec::new();
    let mut language: Option<String> = None;
    let mut continued = false;
    for line in README.lines() {
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
    assert!(language.is_none(), "a code block has no end");
    code
}

fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The rows of the table below `heading`, without its head.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = README.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn tallyhook(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tallyhook"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn help(arguments: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = tallyhook(&[arguments, &["--help"]].concat());
    assert!(
        status.success(),
        "the README names {arguments:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

/// The commands that a help text lists, without `help` itself.
fn commands_in(help: &str) -> BTreeSet<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return BTreeSet::new();
    };
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command there is with its help, as `dead` and `dead list`.
fn commands() -> BTreeMap<String, String> {
    let mut commands = BTreeMap::new();
    for name in commands_in(&help(&[])) {
        let text = help(&[&name]);
        for below in commands_in(&text) {
            commands.insert(format!("{name} {below}"), help(&[&name, &below]));
        }
        commands.insert(name, text);
    }
    assert!(commands.len() > 10, "{commands:?}");
    commands
}

/// The calls of the program in a piece of code, each as its words.
fn calls(text: &str) -> Vec<Vec<&str>> {
    let words: Vec<_> = text
        .split_whitespace()
        .take_while(|word| *word != "#")
        .collect();
    let mut calls: Vec<Vec<&str>> = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let by_cargo = *word == "--" && words.starts_with(&["cargo", "run"]);
        if by_cargo || *word == "tallyhook" {
            let rest = words[place + 1..].iter().copied();
            calls.push(
                rest.take_while(|word| !["&&", "|", ">"].contains(word))
                    .collect(),
            );
        }
    }
    calls.retain(|call| !call.is_empty());
    calls
}

/// The command that a call is of: its first words, as far as they name one.
fn command_of(call: &[&str], commands: &BTreeMap<String, String>) -> String {
    let two = call
        .get(..2)
        .map(|two| two.join(" "))
        .filter(|two| commands.contains_key(two));
    let command = two.unwrap_or_else(|| call[0].to_owned());
    let help = commands
        .get(&command)
        .unwrap_or_else(|| panic!("there is no `tallyhook {}`", call.join(" ")));
    assert!(
        commands_in(help).is_empty(),
        "`tallyhook {}` says not what of `{command}`",
        call.join(" ")
    );
    command
}

#[test]
fn the_table_of_settings_is_the_one_of_the_program() {
    let documented: Vec<_> = table("## Configuration")
        .into_iter()
        .map(|row| {
            let [name, default, meaning] = row[..] else {
                panic!("not three cells: {row:?}")
            };
            assert!(meaning.len() > 10, "{name} has no meaning");
            (
                name.trim_matches('`'),
                (default != "none").then(|| default.trim_matches('`')),
            )
        })
        .collect();
    let settings: Vec<_> = SETTINGS
        .iter()
        .map(|setting| (setting.name, setting.default))
        .collect();
    assert_eq!(documented, settings);
}

#[test]
fn docker_compose_hands_every_setting_on() {
    for name in SETTINGS.iter().map(|setting| setting.name) {
        // It is the image's.
        let is_said = COMPOSE
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{name}: ")));
        assert_eq!(is_said, name != "TALLYHOOK_LISTEN", "{name}");
    }
}

#[test]
fn no_other_settings_are_named() {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    for Code { text, .. } in code() {
        for word in text.split(|letter| !is_part(letter)) {
            let named = word.contains('_')
                && word
                    .chars()
                    .all(|letter| letter.is_ascii_uppercase() || letter == '_');
            let known =
                SETTINGS.iter().any(|setting| setting.name == word) || NO_SETTINGS.contains(&word);
            assert!(!named || known, "{word} is no setting");
        }
    }
    let files: Vec<_> = code()
        .into_iter()
        .filter(|code| code.language.as_deref() == Some("toml"))
        .collect();
    let keys: Vec<_> = files
        .iter()
        .filter_map(|line| line.text.split_once(" = "))
        .collect();
    assert!(!keys.is_empty());
    for (key, _) in keys {
        let known = SETTINGS
            .iter()
            .any(|setting| setting.name.to_lowercase() == key)
            || CHANNEL_KEYS.contains(&key);
        assert!(known, "{key} is no key of the file");
    }
}

#[test]
fn commands_and_flags_are_those_of_the_program() {
    let commands = commands();
    let mut named = BTreeSet::new();
    for Code { text, .. } in code() {
        for call in calls(&text) {
            let command = command_of(&call, &commands);
            for flag in call.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let known = commands[&command]
                    .split([' ', '\n'])
                    .any(|word| word == flag);
                assert!(known, "`tallyhook {command}` has no {flag}");
            }
            named.insert(command);
        }
        let words: Vec<_> = text.split_whitespace().collect();
        let flag = words
            .iter()
            .find(|word| word.starts_with("--") && word.len() > 2);
        if let Some(flag) =
            flag.filter(|flag| words[0] == **flag || commands.contains_key(words[0]))
        {
            let known = commands
                .values()
                .any(|help| help.split([' ', '\n']).any(|word| word == *flag));
            assert!(known, "no command has {flag}, which `{text}` names");
        }
    }
    let last: BTreeSet<_> = commands
        .iter()
        .filter(|(_, help)| commands_in(help).is_empty())
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(
        named, last,
        "on the left what the README names, on the right what there is"
    );
}

#[test]
fn the_table_of_commands_is_complete() {
    let commands = commands();
    let listed = table("## Commands")
        .into_iter()
        .map(|row| row[0].trim_matches('`').to_owned());
    let there = commands
        .iter()
        .filter(|(_, help)| commands_in(help).is_empty());
    let there = there.map(|(name, _)| format!("tallyhook {name}"));
    assert_eq!(listed.collect::<BTreeSet<_>>(), there.collect());
}

fn paths() -> BTreeMap<String, Value> {
    let description: Value = serde_json::from_str(&tallyhook::api::openapi().unwrap()).unwrap();
    serde_json::from_value(description["paths"].clone()).unwrap()
}

#[test]
fn the_table_of_calls_is_complete() {
    let listed: BTreeSet<_> = table("## HTTP")
        .into_iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    let described = paths();
    let described = described.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .keys()
            .map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    assert_eq!(listed, described.collect());
}

/// Whether `path` is `pattern` with its braces filled in, or left as they are.
fn fits(path: &str, pattern: &str) -> bool {
    let (path, pattern): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), pattern.split('/').collect());
    let fits = |(part, wanted): (&&str, &&str)| {
        part == wanted || wanted.starts_with('{') && !part.is_empty()
    };
    path.len() == pattern.len() && path.iter().zip(&pattern).all(fits)
}

#[test]
fn every_path_that_is_named_is_served() {
    let paths = paths();
    let mut found = 0;
    // The file names addresses elsewhere.
    for Code { text, .. } in code()
        .into_iter()
        .filter(|code| code.language.as_deref() != Some("toml"))
    {
        for word in text.split([' ', '\'', '"', '`', ',']) {
            let word = match word.split_once("://") {
                Some(("http" | "https", rest)) => rest.find('/').map_or("", |slash| &rest[slash..]),
                Some(_) => "",
                None => word,
            };
            let path = word
                .trim_start_matches("--url=")
                .split(['?', ';', ':'])
                .next()
                .unwrap();
            let is_file = FILE_ROOTS.iter().any(|root| path.starts_with(root));
            if !path.starts_with('/') || ["/", "/api"].contains(&path) || is_file {
                continue;
            }
            found += 1;
            assert!(
                paths.keys().any(|pattern| fits(path, pattern)),
                "nothing is served at {path}"
            );
        }
    }
    assert!(found > paths.len(), "only {found} paths were found");
}

/// What GitHub makes of a heading to link to it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || *letter == '-')
        .collect()
}

#[test]
fn links_and_files_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchors: BTreeSet<_> = README
        .lines()
        .filter_map(|line| line.strip_prefix("##")?.split_once(' '))
        .map(|(_, text)| anchor(text))
        .collect();
    let targets: Vec<_> = README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(targets.len() > 10, "{targets:?}");
    for target in targets {
        match target.strip_prefix('#') {
            Some(heading) => assert!(anchors.contains(heading), "there is no heading #{heading}"),
            None => assert!(root.join(target).exists(), "there is no {target}"),
        }
    }
    let is_named = |word: &str| {
        ["fixtures", "scripts/", "tests/", "src/", "docs/"]
            .iter()
            .any(|folder| word.starts_with(folder))
    };
    for Code { text, .. } in code() {
        for word in text.split_whitespace().filter(|word| is_named(word)) {
            assert!(root.join(word).exists(), "there is no {word}");
        }
    }
}

/// A suite that takes the place it is given is worth as much on PostgreSQL and RabbitMQ.
#[test]
fn the_test_command_runs_every_suite_on_services_too() {
    // They choose their place by themselves.
    let own = ["backup", "cli", "queue", "rabbitmq"];
    let lists = SCRIPT
        .split("elsewhere")
        .filter_map(|rest| rest.split_once('(')?.1.split_once(')'));
    let named: BTreeSet<_> = lists
        .flat_map(|(list, _)| list.split_whitespace())
        .collect();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "rs") {
            let suite = path.file_stem().unwrap().to_str().unwrap();
            let takes_its_place = std::fs::read_to_string(&path)
                .unwrap()
                .contains(concat!("TestServer::", "start"));
            assert!(
                !takes_its_place || own.contains(&suite) || named.contains(suite),
                "scripts/test leaves {suite} out"
            );
        }
    }
}

#[test]
fn the_toolchain_is_the_one_of_the_manifest() {
    let wanted = format!(
        "a Rust toolchain ({} or newer)",
        env!("CARGO_PKG_RUST_VERSION")
    );
    assert!(
        README.contains(&wanted),
        "the README does not say: {wanted}"
    );
}

/// The cells of a drawn table, row by row.
fn drawn(table: &str) -> Vec<Vec<&str>> {
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix('│')?.strip_suffix('│'));
    rows.map(|row| row.split('┆').map(str::trim).collect())
        .collect()
}

#[test]
fn the_demo_prints_what_is_shown_of_it() {
    let Output {
        status,
        stdout,
        stderr,
    } = tallyhook(&["demo", "--once", "--listen", "127.0.0.1:0"]);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let printed = String::from_utf8(stdout).unwrap();
    let shown = README
        .split("```text\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();

    let counts = |text: &str| {
        text.lines()
            .next()
            .unwrap()
            .rsplit_once(": ")
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(counts(shown), counts(&printed));
    let posted = printed.split(' ').next().unwrap();
    assert!(
        shown.starts_with(posted) && README.contains(&format!("posts the {posted} deliveries"))
    );

    let told = |text: &str| {
        text.split_once("\nWhat happens now")
            .unwrap()
            .1
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect()
    };
    let (told_in_fact, told): (Vec<String>, Vec<String>) = (told(&printed), told(shown));
    assert_eq!(told_in_fact, told);

    let (printed, shown) = (drawn(&printed), drawn(shown));
    let columns: Vec<_> = shown[0]
        .iter()
        .map(|name| {
            printed[0]
                .iter()
                .position(|heading| heading == name)
                .unwrap_or_else(|| panic!("no {name}"))
        })
        .collect();
    assert!(shown.len() > 4);
    for row in &shown {
        let whole = printed
            .iter()
            .find(|whole| whole[0] == row[0])
            .unwrap_or_else(|| panic!("no {}", row[0]));
        let cells: Vec<_> = columns.iter().map(|column| whole[*column]).collect();
        assert_eq!(&cells, row);
    }
}
