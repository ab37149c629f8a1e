//! The documentation, held to the program: README.md, CONTRIBUTING.md and every page of docs/ name
//! only commands, settings, calls, metrics, files and functions that exist, and the demo prints the
//! table that README.md shows.

mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use clap::Command as Cli;
use serde_json::Value;
use tallyhook::config::{CHANNEL_KEYS, SECRET_SETTINGS, SETTINGS};
use tallyhook::telemetry::METRICS;

use self::page::{Code, Page, collect_files, expanded, file, page, pages, root};

/// Upper-case words with an underscore that are no settings: variables of the logger, of
/// docker-compose.yml and of tests, placeholders, and a state of tasks.
const OTHER_WORDS: [&str; 17] = [
    "RUST_LOG",
    "LOG_FORMAT",
    "HOOK_ID",
    "DELIVERY_ID",
    "CODE_REVIEWING",
    "POSTGRES_PASSWORD",
    "RABBITMQ_PASSWORD",
    "READER_PASSWORD",
    "GRAFANA_PASSWORD",
    "TALLYHOOK_FAULTS",
    "TALLYHOOK_FAULTY_SYNCS",
    "TALLYHOOK_LOSSY",
    "TALLYHOOK_NOTIFIED",
    "TALLYHOOK_TEST_ON",
    "TALLYHOOK_GITHUB_DATA",
    "TEST_DATABASE_URL",
    "CARGO_PROFILE_RELEASE_LTO",
];

/// Names in the database that begin as those of metrics do.
const NAMES_IN_SQL: [&str; 2] = ["tallyhook_report", "tallyhook_reader"];

/// Absolute paths below these are files of the reader's machine, not of the server.
const FILE_ROOTS: [&str; 4] = ["/usr", "/var", "/etc", "/data"];

/// Pages about programs with flags of their own: the examples that measure, and the scripts.
const OTHER_FLAGS: [&str; 3] = [
    "CONTRIBUTING.md",
    "docs/operate/performance.md",
    "docs/operate/reliability.md",
];

#[test]
fn the_readme_fits_its_limit() {
    let lines = file("README.md").lines().count();
    assert!(
        lines <= 150,
        "README.md has {lines} lines; move details to docs/"
    );
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = page("docs/SUMMARY.md");
    let listed: BTreeSet<_> = summary
        .links()
        .iter()
        .map(|(_, target)| summary.resolve(target))
        .collect();
    for page in pages()
        .iter()
        .filter(|page| page.path.starts_with("docs") && page.path != summary.path)
    {
        assert!(
            listed.contains(&page.path),
            "docs/SUMMARY.md does not list {}",
            page.name()
        );
    }
}

#[test]
fn links_and_anchors_resolve() {
    let pages: BTreeMap<_, _> = pages()
        .into_iter()
        .map(|page| (page.path.clone(), page))
        .collect();
    let mut checked = 0;
    for page in pages.values() {
        for (_, target) in page
            .links()
            .iter()
            .filter(|(_, target)| !target.contains("://"))
        {
            let (path, anchor) = target
                .split_once('#')
                .map_or((target.as_str(), None), |(path, to)| (path, Some(to)));
            let path = if path.is_empty() {
                page.path.clone()
            } else {
                page.resolve(path)
            };
            assert!(
                root().join(&path).exists(),
                "{}: there is no {target}",
                page.name()
            );
            if let Some(anchor) = anchor {
                let linked = pages
                    .get(&path)
                    .unwrap_or_else(|| panic!("{}: {target} is no page", page.name()));
                assert!(
                    linked.anchors().contains(anchor),
                    "{}: there is no heading {target}",
                    page.name()
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} links were found");
}

/// A link whose text is code and whose target is a source file names an item that the file defines.
#[test]
fn linked_functions_are_where_the_link_leads() {
    let mut checked = 0;
    for page in pages() {
        for (text, target) in page.links() {
            let name = text
                .strip_prefix('`')
                .and_then(|text| text.strip_suffix('`'));
            let Some(name) = name.filter(|name| target.ends_with(".rs") && !name.contains('/'))
            else {
                continue;
            };
            let source = file(page.resolve(&target).to_str().unwrap());
            let item = name
                .rsplit("::")
                .next()
                .unwrap_or(name)
                .trim_end_matches("()");
            let is_defined = ["fn", "struct", "enum", "trait", "const", "type", "mod"]
                .iter()
                .any(|kind| {
                    let definition = format!("{kind} {item}");
                    source.match_indices(&definition).any(|(place, _)| {
                        let next = source[place + definition.len()..].chars().next();
                        !next.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
                    })
                });
            assert!(
                is_defined,
                "{}: {target} does not define {name}",
                page.name()
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} functions were found");
}

#[test]
fn named_files_exist() {
    let folders = [
        "fixtures",
        "scripts/",
        "tests/",
        "src/",
        "docs/",
        "deploy/",
        "examples/",
        "crates/",
        "migrations/",
    ];
    for page in pages() {
        for Code { text, .. } in page.code() {
            let words = words(&text).into_iter();
            let paths = words.filter(|word| folders.iter().any(|folder| word.starts_with(folder)));
            for path in paths
                .filter(|word| !word.contains("NNNN"))
                .flat_map(|word| expanded(&word))
            {
                assert!(
                    root().join(&path).exists(),
                    "{}: there is no {path}",
                    page.name()
                );
            }
        }
    }
}

/// Sources, scripts and deployment files name pages that exist.
#[test]
fn pages_named_in_other_files_exist() {
    let folders = [
        "src", "crates", "tests", "examples", "benches", "scripts", "deploy",
    ];
    let mut paths = vec![
        PathBuf::from("docker-compose.yml"),
        PathBuf::from("Dockerfile"),
    ];
    for folder in folders {
        collect_files(Path::new(folder), &mut paths).unwrap();
    }
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    let mut checked = 0;
    for path in paths {
        // Some fixtures of tests are not text.
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        let words = text.split(|letter| !is_part(letter));
        for page in words.filter(|word| word.starts_with("docs/") && word.ends_with(".md")) {
            assert!(
                root().join(page).exists(),
                "{}: there is no {page}",
                path.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} pages are named");
}

#[test]
fn blocks_are_valid_in_their_language() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks("json") {
            serde_json::from_str::<Value>(block)
                .unwrap_or_else(|error| panic!("{}: {error}\n{block}", page.name()));
            checked += 1;
        }
        for block in page.blocks("toml") {
            block
                .parse::<toml::Table>()
                .unwrap_or_else(|error| panic!("{}: {error}\n{block}", page.name()));
            checked += 1;
        }
        for block in page.blocks("sh") {
            let mut bash = Command::new("bash")
                .arg("-n")
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            bash.stdin
                .take()
                .unwrap()
                .write_all(block.as_bytes())
                .unwrap();
            let Output { status, stderr, .. } = bash.wait_with_output().unwrap();
            assert!(
                status.success(),
                "{}: {}\n{block}",
                page.name(),
                String::from_utf8_lossy(&stderr)
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} blocks were found");
}

/// The words of a line of shell, without quotes, up to a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, ' ') => words.push(String::new()),
            (None, '#') if words.last().is_some_and(String::is_empty) => break,
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The calls of the program in a piece of code, each as its arguments.
fn calls(text: &str) -> Vec<Vec<String>> {
    let words = words(text);
    let mut calls: Vec<Vec<String>> = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let by_cargo = word == "--" && text.starts_with("cargo run") && !text.contains("--example");
        if by_cargo || word == "tallyhook" {
            let rest = words[place + 1..].iter().cloned();
            calls.push(
                rest.take_while(|word| !["&&", "|", ">", "<"].contains(&word.as_str()))
                    .collect(),
            );
        }
    }
    calls.retain(|call| !call.is_empty());
    calls
}

fn command_line() -> Cli {
    let mut root = tallyhook::cli::command();
    root.build();
    root
}

/// Every command without commands below it, as `serve` and `dead list`.
fn leaves(command: &Cli, path: &str) -> BTreeMap<String, Cli> {
    let commands = command
        .get_subcommands()
        .filter(|command| command.get_name() != "help");
    commands
        .flat_map(|command| {
            let path = format!("{path} {}", command.get_name())
                .trim_start()
                .to_owned();
            if command.has_subcommands() {
                leaves(command, &path)
            } else {
                BTreeMap::from([(path, command.clone())])
            }
        })
        .collect()
}

fn has_flag(command: &Cli, flag: &str) -> bool {
    flag == "--help"
        || command
            .get_arguments()
            .any(|argument| argument.get_long() == flag.strip_prefix("--"))
}

#[test]
fn commands_in_code_blocks_parse() {
    let mut checked = 0;
    for page in pages() {
        for Code { text, .. } in page
            .code()
            .into_iter()
            // Text shows output, and usage lines with placeholders.
            .filter(|code| {
                code.language
                    .as_ref()
                    .is_some_and(|language| language != "text")
            })
        {
            for call in calls(&text) {
                let words = ["tallyhook".to_owned()].into_iter().chain(call);
                command_line()
                    .try_get_matches_from(words)
                    .unwrap_or_else(|error| panic!("{}: {text}: {error}", page.name()));
                checked += 1;
            }
        }
    }
    assert!(checked > 25, "only {checked} commands were found");
}

#[test]
fn commands_and_flags_in_sentences_exist() {
    let leaves = leaves(&command_line(), "");
    let global = command_line();
    for page in pages() {
        for Code { text, .. } in page
            .code()
            .into_iter()
            .filter(|code| code.language.is_none())
        {
            for call in calls(&text).iter().filter(|call| call[0] != "COMMAND") {
                let name = call
                    .get(..2)
                    .map(|two| two.join(" "))
                    .filter(|two| leaves.contains_key(two));
                let name = name.unwrap_or_else(|| call[0].clone());
                let command = leaves
                    .get(&name)
                    .unwrap_or_else(|| panic!("{}: `{text}` is no command", page.name()));
                for flag in call.iter().filter(|word| word.starts_with("--")) {
                    let flag = flag.split('=').next().unwrap();
                    assert!(
                        has_flag(command, flag),
                        "{}: `tallyhook {name}` has no {flag}",
                        page.name()
                    );
                }
            }
            let words = words(&text);
            let flag = words
                .iter()
                .find(|word| word.starts_with("--") && word.len() > 2);
            let is_ours = |flag: &str| words[0] == flag || leaves.contains_key(&words[0]);
            if let Some(flag) = flag.filter(|flag| {
                is_ours(flag) && !OTHER_FLAGS.iter().any(|path| page.path == Path::new(path))
            }) {
                let flag = flag.split('=').next().unwrap();
                let is_known = leaves
                    .values()
                    .chain([&global])
                    .any(|command| has_flag(command, flag));
                assert!(
                    is_known,
                    "{}: no command has {flag}, which `{text}` names",
                    page.name()
                );
            }
        }
    }
}

#[test]
fn the_reference_has_every_command_setting_call_and_metric() {
    let commands: BTreeSet<_> = page("docs/reference/commands.md").first_code_of_links();
    let there = leaves(&command_line(), "")
        .into_keys()
        .map(|name| format!("tallyhook {name}"))
        .collect();
    assert_eq!(commands, there);

    let settings = page("docs/reference/configuration.md");
    let documented: Vec<_> = settings.first_cells("# Configuration");
    assert_eq!(
        documented,
        SETTINGS
            .iter()
            .map(|setting| setting.name)
            .collect::<Vec<_>>()
    );

    let calls = page("docs/reference/http-api.md").first_code_of_links();
    let described = paths();
    let described = described.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .keys()
            .map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    assert_eq!(calls, described.collect());

    let metrics = file("docs/reference/metrics.md");
    for metric in METRICS {
        assert!(
            metrics.contains(&format!("| `{}` |", metric.name)),
            "{} is missing",
            metric.name
        );
    }
}

#[test]
fn docker_compose_passes_every_setting() {
    let compose = file("docker-compose.yml");
    for name in SETTINGS.iter().map(|setting| setting.name) {
        let is_passed = compose
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{name}: ")));
        // The address to listen on is the image's, and the token is for commands.
        let is_wanted = !["TALLYHOOK_LISTEN", "TALLYHOOK_TOKEN"].contains(&name);
        assert_eq!(is_passed, is_wanted, "{name}");
    }
}

#[test]
fn named_settings_exist() {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let known: BTreeSet<_> = SETTINGS
        .iter()
        .map(|setting| setting.name.to_owned())
        .chain(SECRET_SETTINGS.map(|name| format!("{name}_FILE")))
        .chain(OTHER_WORDS.map(str::to_owned))
        .collect();
    let is_like_a_setting = |word: &str| {
        let letters = word.trim_matches('_');
        letters.contains('_')
            && letters
                .chars()
                .all(|letter| letter.is_ascii_uppercase() || letter == '_')
    };
    for page in pages() {
        let constants = page.linked_items();
        for Code { text, .. } in page
            .code()
            .into_iter()
            .filter(|code| !constants.contains(&code.text))
        {
            for word in text
                .split(|letter| !is_part(letter))
                .filter(|word| is_like_a_setting(word))
            {
                assert!(
                    known.contains(word),
                    "{}: {word} is no setting",
                    page.name()
                );
            }
        }
        for block in page.blocks("toml") {
            // The keys below other tables are names, and the parts of calendars.
            let is_table = |line: &&str| line.starts_with('[') && !line.starts_with("[[");
            let settings = block.lines().take_while(|line| !is_table(line));
            for (key, _) in settings.filter_map(|line| line.split_once(" = ")) {
                let is_known = known.contains(key.to_uppercase().as_str())
                    || CHANNEL_KEYS.contains(&key)
                    || key == "default_calendar";
                assert!(is_known, "{}: {key} is no key of the file", page.name());
            }
        }
    }
}

#[test]
fn named_metrics_exist() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let alerts = Page {
        path: PathBuf::from("deploy/alerts.yml"),
        text: file("deploy/alerts.yml"),
    };
    let texts = pages().into_iter().chain([alerts]);
    for Page { path, text } in texts {
        for word in text
            .split(|letter| !is_part(letter))
            .filter(|word| word.starts_with("tallyhook_"))
        {
            assert!(
                names.contains(word) || NAMES_IN_SQL.contains(&word),
                "{}: {word} is no metric",
                path.display()
            );
        }
    }
}

#[test]
fn every_alert_is_explained() {
    let alerts = file("deploy/alerts.yml");
    let alerts: BTreeSet<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let monitoring = page("docs/operate/monitoring.md");
    assert_eq!(
        monitoring
            .first_cells("## Alerts")
            .into_iter()
            .collect::<BTreeSet<_>>(),
        alerts
    );
}

fn paths() -> BTreeMap<String, Value> {
    let description: Value = serde_json::from_str(&tallyhook::api::openapi().unwrap()).unwrap();
    serde_json::from_value(description["paths"].clone()).unwrap()
}

/// `path` is `pattern` with its braces filled in, or left as they are.
fn fits(path: &str, pattern: &str) -> bool {
    let (path, pattern): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), pattern.split('/').collect());
    let fits = |(part, wanted): (&&str, &&str)| {
        part == wanted || wanted.starts_with('{') && !part.is_empty()
    };
    path.len() == pattern.len() && path.iter().zip(&pattern).all(fits)
}

#[test]
fn named_paths_are_served() {
    let (paths, pages_served) = (paths(), tallyhook::dashboard::page_calls());
    let served = |path: &str| {
        // A call in a team is the short one.
        let of_team = path.strip_prefix("/api/teams/");
        let short = of_team.and_then(|path| path.split_once('/'));
        let short = short.map(|(_, rest)| format!("/api/{rest}"));
        let path = short.as_deref().unwrap_or(path);
        let pages = pages_served.iter().map(|call| call.path);
        let mut patterns = paths.keys().map(String::as_str).chain(pages);
        patterns.any(|pattern| fits(path, pattern))
    };
    let mut found = 0;
    for page in pages() {
        // The file names addresses elsewhere.
        for Code { text, .. } in page
            .code()
            .into_iter()
            .filter(|code| code.language.as_deref() != Some("toml"))
        {
            for word in text.split([' ', '\'', '"', '`', ',']) {
                let word = match word.split_once("://") {
                    Some(("http" | "https", rest)) => {
                        rest.find('/').map_or("", |slash| &rest[slash..])
                    }
                    Some(_) => "",
                    None => word,
                };
                let path = word
                    .trim_start_matches("--url=")
                    .split(['?', ';', ':'])
                    .next()
                    .unwrap();
                let is_file = FILE_ROOTS.iter().any(|root| path.starts_with(root));
                if !path.starts_with('/')
                    || ["/", "/api", "/tallyhook"].contains(&path)
                    || path.starts_with("//")
                    || path == "/api/v3"
                    || is_file
                {
                    continue;
                }
                found += 1;
                assert!(served(path), "{}: nothing is served at {path}", page.name());
            }
        }
    }
    assert!(found > paths.len(), "only {found} paths were found");
}

#[test]
fn the_toolchain_is_the_one_of_the_manifest() {
    let wanted = format!(
        "a Rust toolchain ({} or newer)",
        env!("CARGO_PKG_RUST_VERSION")
    );
    for path in ["README.md", "docs/guides/quickstart.md"] {
        assert!(
            file(path).contains(&wanted),
            "{path} does not say: {wanted}"
        );
    }
}

/// The cells of the demo's table, row by row: as it is printed off a terminal with tabs, or as on
/// one, where two spaces or more are between them. A dash is an empty cell.
fn cells(text: &str) -> Vec<Vec<&str>> {
    let rows = text
        .lines()
        .filter(|line| line.starts_with("PR") || line.starts_with('#'));
    rows.map(|row| {
        let between = if row.contains('\t') { "\t" } else { "  " };
        let cells = row.split(between).map(str::trim);
        let cells = cells.filter(|cell| !cell.is_empty());
        cells
            .map(|cell| if cell == "-" { "" } else { cell })
            .collect()
    })
    .collect()
}

/// The paragraphs of the demo's output: a summary, the pull requests, what waits, notifications,
/// numbers.
fn paragraphs(text: &str) -> [&str; 5] {
    let paragraphs: Vec<_> = text.trim_end().split("\n\n").collect();
    paragraphs.try_into().unwrap()
}

/// Asserts that a table of the README has rows and columns of the printed one.
fn assert_excerpt(printed: &str, shown: &str) {
    let (printed, shown) = (cells(printed), cells(shown));
    let column = |name: &&str| printed[0].iter().position(|heading| heading == name);
    let columns: Vec<_> = shown[0]
        .iter()
        .map(|name| column(name).unwrap_or_else(|| panic!("no {name}")))
        .collect();
    assert!(shown.len() > 4);
    for row in &shown {
        let whole = printed
            .iter()
            .find(|whole| whole[0] == row[0])
            .unwrap_or_else(|| panic!("no {}", row[0]));
        // Nothing is shown where the last column is empty.
        let cells = columns.iter().map(|column| whole[*column]);
        let shown = row.iter().copied().chain(std::iter::repeat(""));
        assert!(cells.clone().eq(shown.take(columns.len())), "{row:?}");
    }
}

#[test]
fn the_demo_prints_the_table_of_the_readme() {
    let demo = Command::new(env!("CARGO_BIN_EXE_tallyhook"))
        .args(["demo", "--once", "--listen", "127.0.0.1:0"])
        .env_clear()
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = demo.unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let printed = String::from_utf8(stdout).unwrap();
    let readme = page("README.md");
    let shown = readme.blocks("text")[0];

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
        shown.starts_with(posted)
            && readme
                .text
                .contains(&format!("posts the {posted} deliveries"))
    );
    let [_, table, waiting, notifications, numbers] = paragraphs(&printed);
    let [
        _,
        shown_table,
        shown_waiting,
        shown_notifications,
        shown_numbers,
    ] = paragraphs(shown);
    assert_excerpt(table, shown_table);
    assert_excerpt(waiting, shown_waiting);
    assert_eq!(waiting.lines().next(), shown_waiting.lines().next());
    // The address of the server differs.
    assert!(
        notifications
            .lines()
            .skip(1)
            .eq(shown_notifications.lines().skip(1))
    );
    assert_eq!(numbers, shown_numbers);
}

#[test]
fn the_quick_start_shows_the_numbers_of_the_fixture() {
    let fixture: Value =
        serde_json::from_str(&file("fixtures/07-changes-then-approval.expected.json")).unwrap();
    let guide = page("docs/guides/quickstart.md");
    assert!(guide.text.contains(&format!(
        "/api/repos/acme-corp/api-server/prs/{}",
        fixture["number"]
    )));
    let shown: BTreeMap<String, Value> = serde_json::from_str(guide.blocks("json")[0]).unwrap();
    for (name, value) in shown {
        assert_eq!(value, fixture[&name], "{name}");
    }
}
