//! Holds the order of the modules and what each must not name. Whoever breaks a rule learns the file, the line and why.
//!
//! The sources are read as text: comments, literals and `#[cfg(test)]` items are left out, and nested imports are
//! taken apart, so that `use std::{env, fs}` names `std::env`.

use std::path::Path;
use std::{fs, io};

const LONGEST_FILE: usize = 600;

/// A module may use those of the groups before its own, and nothing of its own group.
const ORDER: &[&[&str]] = &[
    &["github::types"],
    &["github::graphql", "github::payload", "github::signature"],
    &["github", "github::client"],
    &["event"],
    &["domain"],
    &["queue"],
    &["store"],
    &[
        "fetch", "hook", "ingest", "notify", "process", "recover", "relay", "worktree",
    ],
    &["backfill", "tasks"],
    &["poller"],
    &["api"],
    &["app"],
    &["cli"],
    &["lib", "main"],
];

/// The last group of [`ORDER`] that is pure: side modules may use it and what stands before it, and not the reverse.
const PURE: usize = 4;

/// Modules beside the order, for everything after [`PURE`]. Each may use those before it.
const SIDE: &[&str] = &["config", "telemetry", "crash_point"];

/// What must not be named in some modules, whatever their place in the order.
struct Ban {
    within: &'static [&'static str],
    except: &'static [&'static str],
    /// Paths or parts of paths; a final `*` stands for any rest of a name.
    names: &'static [&'static str],
    why: &'static str,
}

const EVERYWHERE: &[&str] = &[""];

const BANS: &[Ban] = &[
    Ban {
        within: &["github", "event"],
        except: &[],
        names: &["actix*", "sqlx", "lapin"],
        why: "what GitHub says does not depend on how it arrives, is sent on or is kept",
    },
    Ban {
        within: &["event"],
        except: &[],
        names: &["reqwest"],
        why: "an event is decoded, never fetched",
    },
    Ban {
        within: &["domain"],
        except: &[],
        names: &[
            "async*", "tokio*", "futures*", "actix*", "reqwest", "sqlx", "lapin", "tracing*",
        ],
        why: "the rules are synchronous and pure",
    },
    Ban {
        within: &["domain"],
        except: &[],
        names: &[
            "Utc::now",
            "Local::now",
            "SystemTime",
            "Instant::now",
            "rand",
            "Uuid::new_v4",
            "std::env",
            "std::fs",
        ],
        why: "the same facts give the same answer: time is an argument, chance and surroundings play no part",
    },
    Ban {
        within: EVERYWHERE,
        except: &["store"],
        names: &["sqlx"],
        why: "all SQL is in `store`",
    },
    Ban {
        within: EVERYWHERE,
        except: &["config"],
        names: &["std::env"],
        why: "every setting is read in `config`",
    },
    Ban {
        within: &["queue", "store", "process", "relay"],
        except: &[],
        names: &["actix*", "reqwest"],
        why: "HTTP ends at `ingest` and `api`",
    },
    Ban {
        within: EVERYWHERE,
        except: &["github", "event"],
        names: &["crate::github::payload"],
        why: "GitHub's shapes end at `event`, which has our own words for them",
    },
    Ban {
        within: EVERYWHERE,
        except: &["queue"],
        names: &["crate::queue::in_process", "crate::queue::amqp"],
        why: "which queue it is, only `queue` knows",
    },
    Ban {
        within: &["relay"],
        except: &[],
        names: &["crate::github"],
        why: "the relay carries ids, whatever they mean",
    },
];

#[test]
fn modules_use_only_what_stands_before_them() -> io::Result<()> {
    assert_none(
        "modules out of order",
        &all(&sources("src")?, order_breaches),
    );
    Ok(())
}

#[test]
fn modules_do_not_name_what_they_must_not_know() -> io::Result<()> {
    assert_none("names out of place", &all(&sources("src")?, ban_breaches));
    Ok(())
}

#[test]
fn nothing_is_left_to_do() -> io::Result<()> {
    assert_none("unfinished code", &all(&sources("src")?, unfinished));
    Ok(())
}

#[test]
fn no_file_is_too_long_to_read() -> io::Result<()> {
    let mut breaches = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        breaches.extend(all(&sources(folder)?, too_long));
    }
    assert_none("files to split", &breaches);
    Ok(())
}

/// A rule about a module that was renamed would hold for ever.
#[test]
fn every_module_that_a_rule_names_exists() -> io::Result<()> {
    let modules: Vec<String> = sources("src")?.iter().map(Source::module).collect();
    let of_bans = BANS
        .iter()
        .flat_map(|ban| ban.within.iter().chain(ban.except));
    for name in ORDER.iter().copied().flatten().chain(SIDE).chain(of_bans) {
        assert!(
            modules.iter().any(|module| is_within(module, name)),
            "a rule names `{name}`, which src/ does not have"
        );
    }
    Ok(())
}

#[test]
fn a_module_out_of_order_is_found() {
    for (path, code, found) in [
        (
            "src/process.rs",
            "fn f() {}\nuse crate::ingest::label;",
            "src/process.rs:2: `process` may not use `ingest`",
        ),
        (
            "src/store/sqlite/inbox.rs",
            "use crate::api;",
            "`store` may not use `api`",
        ),
        (
            "src/store/sqlite/inbox.rs",
            "use super::super::super::app::App;",
            "`store` may not use `app`",
        ),
        (
            "src/event/mod.rs",
            "use super::domain::review;",
            "`event` may not use `domain`",
        ),
        (
            "src/domain/review.rs",
            "fn f() { crate::config::log_filter(); }",
            "`domain` may not use `config`",
        ),
        (
            "src/domain/review.rs",
            "fn f() { crate::crash_point!(\"here\"); }",
            "`domain` may not use `crash_point`",
        ),
        (
            "src/config.rs",
            "use crate::{\n    domain::people::Bots,\n    tallyhook_store::Store,\n};",
            "src/config.rs:3: `config`",
        ),
        (
            "src/telemetry.rs",
            "use crate::queue::Lane;",
            "`telemetry` may not use `queue`",
        ),
        (
            "src/github/types.rs",
            "use super::signature::Secrets;",
            "`github::types` may not use `github::signature`",
        ),
        (
            "src/github/payload.rs",
            "use super::signature::Secrets;",
            "`github::payload` may not use `github::signature`",
        ),
        (
            "src/app.rs",
            "use tallyhook::cli::run;",
            "`app` may not use `cli`",
        ),
        (
            "src/helpers.rs",
            "",
            "src/helpers.rs:1: `helpers` has no place in the order",
        ),
    ] {
        assert_finds(&order_breaches(&Source::new(path, code)), found);
    }
}

#[test]
fn what_stands_in_order_is_let_through() {
    for (path, code) in [
        ("src/main.rs", "use tallyhook::cli;"),
        (
            "src/api/mod.rs",
            "use crate::{ingest, store::{self, Store}}; use super::telemetry; use self::page::Page;",
        ),
        (
            "src/process.rs",
            "fn f<'a>(x: &'a str) { crate::crash_point!(\"x\"); crate::store::Moment::now(); }",
        ),
        (
            "src/config.rs",
            "use crate::domain::people::Bots; use crate::github::signature::Secrets;",
        ),
        (
            "src/telemetry.rs",
            "fn f() { crate::config::log_filter(); crate::event::NAMES; }",
        ),
        (
            "src/event/mod.rs",
            "/// As [`crate::store`] keeps it.\n/* crate::store /* crate::api */ crate::app */",
        ),
        (
            "src/event/mod.rs",
            "const A: &str = \"\\\"crate::store\"; const B: &str = r#\"\"crate::api\"#; const C: char = '\"';",
        ),
        (
            "src/event/mod.rs",
            "#[cfg(test)]\nmod tests {\n    fn f() { if a { } }\n    use crate::store;\n}",
        ),
        (
            "src/event/mod.rs",
            "#[cfg(all(test, unix))] #[path = \"x\"] use crate::store::{A, B};",
        ),
    ] {
        assert_eq!(
            order_breaches(&Source::new(path, code)),
            Vec::<String>::new(),
            "{path}: {code}"
        );
    }
}

#[test]
fn code_after_or_beside_a_test_module_is_still_read() {
    for code in [
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::store;",
        "#[cfg(test)] mod tests;\nuse crate::store;",
        "#[cfg(not(test))] use crate::store;",
        "#[cfg(any(test, unix))] use crate::store;",
        "fn f(x: &'static str) -> char { 'x' }\nuse crate::store;",
        "const Q: char = '\\''; const R: u8 = b'\\\"'; use crate::store; const S: &str = \"\";",
        "const A: &[u8] = br\"\\\"; use crate::store; const B: &str = \"\";",
        "fn f(n: usize) { for _ in 0..crate::store::LIMIT {} }",
    ] {
        assert_finds(
            &order_breaches(&Source::new("src/event/mod.rs", code)),
            "`event` may not use `store`",
        );
    }
}

#[test]
fn every_name_that_is_banned_is_found() {
    for ban in BANS {
        let within = if ban.within == EVERYWHERE {
            &["api"]
        } else {
            ban.within
        };
        for (module, name) in within
            .iter()
            .flat_map(|module| ban.names.iter().map(move |name| (module, name)))
        {
            let path = format!("src/{module}/planted.rs");
            let name = name.trim_end_matches('*');
            for code in [
                format!("fn f() {{ {name}(); }}"),
                format!("pub use {{\n{name}::{{self, Other}}}};"),
            ] {
                assert_finds(&ban_breaches(&Source::new(&path, &code)), ban.why);
            }
        }
        for module in ban.except {
            let code = format!("use {}::planted;", ban.names[0]);
            let found = ban_breaches(&Source::new(&format!("src/{module}.rs"), &code));
            assert!(
                !found.iter().any(|breach| breach.contains(ban.why)),
                "{module} is excepted: {found:?}"
            );
        }
    }
}

#[test]
fn a_banned_name_is_found_in_any_spelling() {
    for (path, code, found) in [
        (
            "src/cli/serve.rs",
            "use std::{\n    env,\n    fs,\n};",
            "src/cli/serve.rs:2: `std::env`",
        ),
        (
            "src/main.rs",
            "fn main() {\n    ::std::env::args();\n}",
            "src/main.rs:2: `std::env::args`",
        ),
        (
            "src/api/mod.rs",
            "#[derive(sqlx::FromRow)]\nstruct Row;",
            "src/api/mod.rs:1: `sqlx::FromRow`",
        ),
        (
            "src/process.rs",
            "use actix_web::web;",
            "src/process.rs:1: `actix_web::web`",
        ),
        (
            "src/domain/review.rs",
            "use chrono::Utc;\nfn f() { Utc::now(); }",
            "src/domain/review.rs:2: `Utc::now`",
        ),
        (
            "src/domain/review.rs",
            "pub async fn f() {}",
            "src/domain/review.rs:1: `async`",
        ),
        (
            "src/api/mod.rs",
            "use crate::github::{types, payload::Payload};",
            "`crate::github::payload::Payload`",
        ),
    ] {
        assert_finds(&ban_breaches(&Source::new(path, code)), found);
    }
}

#[test]
fn a_name_that_only_looks_banned_is_let_through() {
    for (path, code) in [
        (
            "src/cli/mod.rs",
            "const VERSION: &str = env!(\"CARGO_PKG_VERSION\");",
        ),
        (
            "src/domain/review.rs",
            "// tokio\nfn f(x: &X) { x.rand; let operand = \"async\"; strand(); }",
        ),
        (
            "src/domain/review.rs",
            "#[cfg(test)] mod tests { use std::env; use rand::random; }",
        ),
    ] {
        assert_eq!(
            ban_breaches(&Source::new(path, code)),
            Vec::<String>::new(),
            "{path}: {code}"
        );
    }
}

#[test]
fn unfinished_and_long_files_are_found() {
    let code = "fn f() {\n    todo!()\n}\n#[cfg(test)] mod tests { fn g() { todo!(\"later\") } }";
    assert_eq!(unfinished(&Source::new("src/app.rs", code)).len(), 2);
    assert_eq!(
        unfinished(&Source::new("src/app.rs", "// todo!()\nfn todo() {}")),
        Vec::<String>::new()
    );
    assert_finds(
        &too_long(&Source::new("src/app.rs", &"\n".repeat(LONGEST_FILE + 1))),
        "src/app.rs:601: ",
    );
    assert_eq!(
        too_long(&Source::new("src/app.rs", &"\n".repeat(LONGEST_FILE))),
        Vec::<String>::new()
    );
}

fn assert_finds(breaches: &[String], expected: &str) {
    assert!(
        breaches.iter().any(|breach| breach.contains(expected)),
        "`{expected}` is not in {breaches:#?}"
    );
}

fn assert_none(what: &str, breaches: &[String]) {
    let listed: String = breaches
        .iter()
        .map(|breach| format!("\n  {breach}"))
        .collect();
    assert!(
        breaches.is_empty(),
        "{} {what}:{listed}\n(the rules stand in tests/architecture.rs)",
        breaches.len()
    );
}

fn all(sources: &[Source], rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources.iter().flat_map(rule).collect()
}

fn order_breaches(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some((from, from_place)) = place(&module) else {
        return vec![source.breach(
            1,
            &format!("`{module}` has no place in the order; give it one"),
        )];
    };
    let mut breaches = Vec::new();
    for (line, path) in source.paths() {
        if let Some((to, to_place)) = path.strip_prefix("crate::").and_then(place)
            && from != to
            && !may_use(from_place, to_place)
        {
            breaches.push(source.breach(
                line,
                &format!("`{from}` may not use `{to}`, as `{path}` does"),
            ));
        }
    }
    breaches
}

fn ban_breaches(source: &Source) -> Vec<String> {
    let module = source.module();
    let applies = |ban: &&Ban| {
        ban.within.iter().any(|name| is_within(&module, name))
            && !ban.except.iter().any(|name| is_within(&module, name))
    };
    let bans: Vec<&Ban> = BANS.iter().filter(applies).collect();
    let mut breaches = Vec::new();
    for (line, path) in source.paths() {
        for ban in bans
            .iter()
            .filter(|ban| ban.names.iter().any(|name| contains_name(&path, name)))
        {
            breaches
                .push(source.breach(line, &format!("`{path}` is out of place here: {}", ban.why)));
        }
    }
    breaches
}

fn unfinished(source: &Source) -> Vec<String> {
    let tokens = tokens(&source.text);
    let calls = tokens
        .windows(2)
        .filter(|pair| pair[0].text == "todo" && pair[1].text == "!");
    calls
        .map(|pair| source.breach(pair[0].line, "`todo!` is left"))
        .collect()
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let breach = || {
        source.breach(
            lines,
            &format!("{lines} lines; the limit is {LONGEST_FILE}"),
        )
    };
    (lines > LONGEST_FILE).then(breach).into_iter().collect()
}

#[derive(Clone, Copy)]
enum Place {
    Ordered(usize),
    Side(usize),
}

/// The rule's name for a module, and where it stands: the longest name that fits.
fn place(module: &str) -> Option<(&'static str, Place)> {
    let ordered = ORDER
        .iter()
        .enumerate()
        .flat_map(|(rank, group)| group.iter().map(move |name| (*name, rank)));
    let ordered = ordered.map(|(name, rank)| (name, Place::Ordered(rank)));
    let side = SIDE
        .iter()
        .enumerate()
        .map(|(rank, name)| (*name, Place::Side(rank)));
    ordered
        .chain(side)
        .filter(|(name, _)| is_within(module, name))
        .max_by_key(|(name, _)| name.len())
}

fn may_use(from: Place, to: Place) -> bool {
    match (from, to) {
        (Place::Ordered(from), Place::Ordered(to)) | (Place::Side(from), Place::Side(to)) => {
            to < from
        }
        (Place::Ordered(from), Place::Side(_)) => from > PURE,
        (Place::Side(_), Place::Ordered(to)) => to <= PURE,
    }
}

fn is_within(module: &str, name: &str) -> bool {
    name.is_empty()
        || module
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn contains_name(path: &str, name: &str) -> bool {
    let path: Vec<&str> = path.split("::").collect();
    let name: Vec<&str> = name.split("::").collect();
    let fits = |(part, wanted): (&&str, &&str)| match wanted.strip_suffix('*') {
        Some(beginning) => part.starts_with(beginning),
        None => part == wanted,
    };
    path.windows(name.len())
        .any(|parts| parts.iter().zip(&name).all(fits))
}

struct Source {
    /// From the project's root, with `/`.
    path: String,
    text: String,
}

/// Every Rust file below a folder of the project, none if there is no such folder.
fn sources(folder: &str) -> io::Result<Vec<Source>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        if !root.join(&folder).exists() {
            continue;
        }
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") {
                found.push(Source {
                    text: fs::read_to_string(entry.path())?,
                    path,
                });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// `tallyhook_store::sqlite` for `src/store/sqlite/mod.rs`, `main` for `src/main.rs`.
    fn module(&self) -> String {
        let path = self
            .path
            .trim_start_matches("src/")
            .trim_end_matches(".rs")
            .trim_end_matches("/mod");
        path.replace('/', "::")
    }

    fn breach(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// What the code outside its tests names, by line; what is ours begins with `crate::`.
    fn paths(&self) -> Vec<(usize, String)> {
        let module = self.module();
        let tokens = without_tests(&tokens(&self.text));
        let mut found = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let is_field = at > 0 && tokens[at - 1].text == ".";
            at = if tokens[at].is_word() && !is_field {
                read_path(&tokens, at, "", &mut found)
            } else {
                at + 1
            };
        }
        found
            .into_iter()
            .map(|(line, path)| (line, resolved(&path, &module)))
            .collect()
    }
}

#[derive(Clone, Copy)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text
            .starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Reads the path, or the tree of an import, that begins at `at`; gives where it ends.
fn read_path(
    tokens: &[Token<'_>],
    at: usize,
    before: &str,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let path = format!("{before}{}", tokens[at].text);
    match (tokens.get(at + 1), tokens.get(at + 2)) {
        (Some(colons), Some(next)) if colons.text == "::" && next.is_word() => {
            read_path(tokens, at + 2, &format!("{path}::"), found)
        }
        (Some(colons), Some(next)) if colons.text == "::" && next.text == "{" => {
            let mut at = at + 3;
            while at < tokens.len() && tokens[at].text != "}" {
                at = if tokens[at].is_word() {
                    read_path(tokens, at, &format!("{path}::"), found)
                } else {
                    at + 1
                };
            }
            at + 1
        }
        _ => {
            found.push((tokens[at].line, path));
            at + 1
        }
    }
}

fn resolved(path: &str, module: &str) -> String {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut parts = path.split("::").peekable();
    match parts.peek() {
        Some(&("crate" | "tallyhook")) => base.clear(),
        Some(&"self") => {}
        Some(&"super") => drop(base.pop()),
        _ => return path.to_owned(),
    }
    parts.next();
    while parts.next_if_eq(&"super").is_some() {
        base.pop();
    }
    ["crate"]
        .into_iter()
        .chain(base)
        .chain(parts)
        .collect::<Vec<_>>()
        .join("::")
}

fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = attribute_length(&tokens[at..]);
        if is_for_tests(&tokens[at..at + attribute]) {
            at += attribute;
            at += item_length(&tokens[at..]);
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

fn attribute_length(tokens: &[Token<'_>]) -> usize {
    if !matches!(tokens, [hash, bracket, ..] if hash.text == "#" && bracket.text == "[") {
        return 0;
    }
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "[" => depth += 1,
            "]" if depth == 1 => return at + 1,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_for_tests(attribute: &[Token<'_>]) -> bool {
    let has = |word: &str| attribute.iter().any(|token| token.text == word);
    has("cfg") && has("test") && !has("not") && !has("any")
}

/// Up to the semicolon or the closing brace that ends the item.
fn item_length(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" if depth == 0 => return at,
            "}" if depth == 1 => return at + 1,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The words and signs of the code, without comments and literals.
fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut line, mut rest) = (1, code);
    while !rest.is_empty() {
        let (length, is_code) = first_piece(rest);
        let (text, after) = rest.split_at(length);
        if is_code {
            found.push(Token { line, text });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// How long the first piece is, and whether it is code.
fn first_piece(rest: &str) -> (usize, bool) {
    let word = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (block_comment(rest), false)
    } else if let Some(length) = text_literal(rest).or_else(|| character_literal(rest)) {
        (length, false)
    } else if word > 0 {
        (word, true)
    } else if rest.starts_with("::") || rest.starts_with("..") {
        (2, true)
    } else {
        (
            rest.chars().next().map_or(0, char::len_utf8),
            !rest.starts_with(char::is_whitespace),
        )
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let Some(next) = rest[at..]
            .find("/*")
            .into_iter()
            .chain(rest[at..].find("*/"))
            .min()
        else {
            return rest.len();
        };
        depth += if rest[at + next..].starts_with("/*") {
            1
        } else {
            -1
        };
        at += next + 2;
        if depth == 0 {
            return at;
        }
    }
}

fn text_literal(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let raw = body.strip_prefix('r');
    let quoted = raw.map_or(body, |raw| raw.trim_start_matches('#'));
    let inside = quoted.strip_prefix('"')?;
    let end = match raw {
        Some(raw) => {
            let closing = format!("\"{}", "#".repeat(raw.len() - quoted.len()));
            inside.find(&closing)? + closing.len()
        }
        None => closing_quote(inside)? + 1,
    };
    Some(rest.len() - inside.len() + end)
}

fn closing_quote(inside: &str) -> Option<usize> {
    let mut is_escaped = false;
    inside.find(|c| {
        let closes = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        closes
    })
}

/// A lifetime is none: no quote closes it.
fn character_literal(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let end = match first {
        '\\' => inside.get(2..)?.find('\'')? + 2,
        _ => inside[first.len_utf8()..]
            .starts_with('\'')
            .then_some(first.len_utf8())?,
    };
    Some(rest.len() - inside.len() + end + 1)
}
