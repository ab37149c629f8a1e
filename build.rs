//! Gives `--version` the target and the commit: from git, or else from `TALLYHOOK_COMMIT` (where there is no
//! repository, as in a container's build), or else none. Never fails a build.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=TALLYHOOK_COMMIT");
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit_of_git().or_else(commit_of_environment) {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=TALLYHOOK_VERSION={version}");
    println!("cargo::rustc-env=TALLYHOOK_BUILD={}", build_text());
}

/// Returns target, optimisation and features, such as `x86_64-unknown-linux-gnu, optimised, no
/// extra features`.
fn build_text() -> String {
    let of_cargo = |name: &str| std::env::var(name).unwrap_or_default();
    let optimised = match of_cargo("OPT_LEVEL").as_str() {
        "0" => "not optimised",
        _ => "optimised",
    };
    let features = std::env::vars_os().filter_map(|(name, _)| {
        let name = name.to_str()?.strip_prefix("CARGO_FEATURE_")?;
        Some(name.to_lowercase().replace('_', "-"))
    });
    let features: Vec<_> = features.collect();
    let features = match features[..] {
        [] => "no extra features".to_owned(),
        _ => format!("features {}", features.join(", ")),
    };
    format!("{}, {optimised}, {features}", of_cargo("TARGET"))
}

/// Returns hash and date of HEAD, such as `abcdef0 2026-11-29`.
fn commit_of_git() -> Option<String> {
    // Without this check git would find a repository that merely contains this folder.
    if !Path::new(".git").exists() {
        println!("cargo::rerun-if-changed=build.rs");
        return None;
    }
    watch_head();
    git(&["log", "-1", "--abbrev=7", "--format=%h %cs"])
}

/// Reruns this script when HEAD moves: to another branch, or with its branch. Git says where these
/// files are, which is elsewhere in a linked worktree. A file that does not exist is left out,
/// since cargo would rerun the script at every build.
fn watch_head() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "packed-refs"].map(str::to_owned);
    for name in names.into_iter().chain(branch) {
        if let Some(path) = git(&["rev-parse", "--git-path", &name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn commit_of_environment() -> Option<String> {
    let commit = std::env::var("TALLYHOOK_COMMIT").ok()?;
    let commit = commit.trim();
    (!commit.is_empty() && !commit.contains('\n')).then(|| commit.to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
