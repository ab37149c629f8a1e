//! Writes `docs/reference/` from the program itself: `cargo run --example docs`.
//!
//! Commands are read from the command line's definition, settings from `config`, calls from the
//! OpenAPI description, and metrics from `telemetry`. With `--check` nothing is written; the exit
//! code is 1 if a page differs.

mod commands;
mod configuration;
mod http_api;
mod markdown;
mod metrics;
mod schemas;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use anyhow::Context;

fn main() -> anyhow::Result<ExitCode> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let pages = [
        ("commands.md", commands::page()),
        ("configuration.md", configuration::page()),
        ("http-api.md", http_api::page()?),
        ("metrics.md", metrics::page()),
    ];
    let check = env::args().skip(1).any(|argument| argument == "--check");
    let mut is_current = true;
    for (name, text) in pages {
        let path = folder.join(name);
        if check {
            is_current &= matches_file(&path, &text)?;
        } else {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(if is_current {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Compares a page with its file and prints the first line that differs.
fn matches_file(path: &Path, text: &str) -> anyhow::Result<bool> {
    let on_disk = match fs::read_to_string(path) {
        Ok(on_disk) => on_disk,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if on_disk == text {
        return Ok(true);
    }
    // Lines after the common start; a page that only ends early differs at its end.
    let same = on_disk
        .lines()
        .zip(text.lines())
        .take_while(|(old, new)| old == new)
        .count();
    let line = |text: &str| {
        text.lines()
            .nth(same)
            .unwrap_or("(end of the page)")
            .to_owned()
    };
    eprintln!(
        "{}:{}: not what the program says; run `cargo run --example docs`\n- {}\n+ {}",
        path.display(),
        same + 1,
        line(&on_disk),
        line(text)
    );
    Ok(false)
}
