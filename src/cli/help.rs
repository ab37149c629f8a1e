//! Help: commands in groups, examples of each, and the settings.

use clap::{Command, CommandFactory};

use super::CommandLine;
use super::table::wrapped;
use crate::config::{GITHUB_WEBHOOK_SECRET, SECRET_SETTINGS, SETTINGS};

/// The width of all help.
const WIDTH: usize = 80;

/// The commands by what they are for, in the order of the help.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Start", &["demo", "init", "serve", "doctor"]),
    ("Read", &["prs", "pr", "stats", "waiting"]),
    ("Deliveries", &["deliveries", "dead", "replay", "recover"]),
    ("GitHub", &["hook", "backfill", "poll", "refetch"]),
    (
        "Operate",
        &[
            "token",
            "team",
            "member",
            "user",
            "repository",
            "secrets",
            "audit",
            "notify",
            "worktrees",
            "config",
            "migrate",
            "recompute",
            "openapi",
            "completions",
            "man",
        ],
    ),
];

/// The examples of each command, a line each.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "demo",
        &[
            "tallyhook demo",
            "tallyhook demo --once --listen 127.0.0.1:0",
        ],
    ),
    ("init", &["tallyhook init"]),
    (
        "serve",
        &[
            "tallyhook serve --config tallyhook.toml",
            "tallyhook serve --role ingest,api",
        ],
    ),
    (
        "replay",
        &[
            "tallyhook replay fixtures",
            "tallyhook replay all.jsonl --rate 50 --shuffle 7",
            "tallyhook replay all.jsonl --url https://HOST/webhooks/github",
        ],
    ),
    (
        "prs",
        &[
            "tallyhook prs --state open",
            "tallyhook prs --repo acme-corp/api-server --since 30d --json",
            "tallyhook prs --waiting-for reviewers --waited-min 3d",
            "tallyhook prs --merged-from 90d --sort pickup",
            "tallyhook prs --digest --url https://tallyhook.example.com",
        ],
    ),
    (
        "pr",
        &[
            "tallyhook pr 'acme-corp/api-server#107'",
            "tallyhook pr 'acme-corp/api-server#107' --json",
        ],
    ),
    (
        "waiting",
        &[
            "tallyhook waiting",
            "tallyhook waiting --repo acme-corp/api-server --team backend",
        ],
    ),
    (
        "stats",
        &[
            "tallyhook stats --since 30d",
            "tallyhook stats --since 2026-01-01 --bucket month --repo acme-corp/api-server",
        ],
    ),
    (
        "deliveries list",
        &[
            "tallyhook deliveries list --state dead",
            "tallyhook deliveries list --follow",
        ],
    ),
    (
        "deliveries show",
        &[
            "tallyhook deliveries show 1047",
            "tallyhook deliveries show fa1ab1e0",
        ],
    ),
    (
        "deliveries export",
        &["tallyhook deliveries export --event pull_request --output fixtures.jsonl"],
    ),
    (
        "dead list",
        &["tallyhook dead list", "tallyhook dead list --json"],
    ),
    ("dead show", &["tallyhook dead show 1047"]),
    (
        "dead requeue",
        &[
            "tallyhook dead requeue 1047 1048",
            "tallyhook dead requeue --event pull_request",
        ],
    ),
    (
        "dead discard",
        &["tallyhook dead discard 1047 --reason 'sent by a test'"],
    ),
    (
        "recover",
        &[
            "tallyhook recover --repo acme-corp/api-server",
            "tallyhook recover --org acme-corp --days 1",
        ],
    ),
    (
        "backfill",
        &[
            "tallyhook backfill acme-corp/api-server",
            "tallyhook backfill acme-corp/api-server --days 365 --commits",
        ],
    ),
    ("poll", &["tallyhook poll --once"]),
    (
        "refetch",
        &["tallyhook refetch --replace 'acme-corp/api-server#107'"],
    ),
    (
        "hook create",
        &["tallyhook hook create acme-corp/api-server --url https://HOST/webhooks/github"],
    ),
    ("doctor", &["tallyhook doctor", "tallyhook doctor --json"]),
    (
        "notify test",
        &["tallyhook notify test", "tallyhook notify test slack"],
    ),
    ("notify list", &["tallyhook notify list"]),
    ("worktrees", &["tallyhook worktrees"]),
    ("recompute", &["tallyhook recompute"]),
    ("migrate", &["tallyhook migrate"]),
    ("config check", &["tallyhook config check"]),
    ("config show", &["tallyhook config show"]),
    (
        "token create",
        &[
            "tallyhook token create dashboard",
            "tallyhook token create ci --role viewer --expires 30d",
            "tallyhook token create ci --team mobile-apps --role member",
        ],
    ),
    ("token list", &["tallyhook token list"]),
    ("token revoke", &["tallyhook token revoke dashboard"]),
    ("team create", &["tallyhook team create 'Mobile apps'"]),
    ("team list", &["tallyhook team list"]),
    ("member list", &["tallyhook member list --team mobile-apps"]),
    (
        "member add",
        &["tallyhook member add ines-acme --team mobile-apps --role admin"],
    ),
    (
        "member role",
        &["tallyhook member role ines-acme viewer --team mobile-apps"],
    ),
    (
        "member remove",
        &["tallyhook member remove ines-acme --team mobile-apps"],
    ),
    (
        "user invite",
        &[
            "tallyhook user invite 'Ines Adler' --team mobile-apps --role member",
            "tallyhook user invite ines-acme --existing",
        ],
    ),
    ("user disable", &["tallyhook user disable ines-acme"]),
    ("user enable", &["tallyhook user enable ines-acme"]),
    ("user list", &["tallyhook user list"]),
    (
        "repository list",
        &["tallyhook repository list --unclaimed"],
    ),
    (
        "repository give",
        &["tallyhook repository give acme-corp/api-server --team backend"],
    ),
    (
        "repository take",
        &["tallyhook repository take acme-corp/api-server --team backend"],
    ),
    (
        "audit export",
        &[
            "tallyhook audit export --from 30d --format csv --output audit.csv",
            "tallyhook audit export --calls --action POST",
        ],
    ),
    (
        "secrets status",
        &[
            "tallyhook secrets status",
            "tallyhook secrets status --json",
        ],
    ),
    (
        "secrets rotate",
        &[
            "tallyhook secrets rotate",
            "tallyhook secrets rotate --new-key",
        ],
    ),
    (
        "secrets forget",
        &["tallyhook secrets forget 8f14e45fceea167a --yes"],
    ),
    (
        "openapi",
        &["tallyhook openapi", "tallyhook openapi --events"],
    ),
    ("completions", &["tallyhook completions bash"]),
    ("man", &["tallyhook man"]),
];

/// Returns the definition of the command line, with its help.
pub fn command() -> Command {
    let command = CommandLine::command();
    let groups = grouped(&command);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}\
         {{after-help}}"
    );
    let command = command
        .help_template(template)
        .max_term_width(WIDTH)
        .after_help("--help shows the settings, too, and COMMAND --help the examples of a command.")
        .after_long_help(settings());
    EXAMPLES.iter().fold(command, |command, (path, examples)| {
        let path: Vec<_> = path.split(' ').collect();
        with_examples(command, &path, examples)
    })
}

/// Adds examples to a command, if there is one of that name.
fn with_examples(command: Command, path: &[&str], examples: &[&str]) -> Command {
    let Some((name, below)) = path.split_first() else {
        return command.after_help(format!("Examples:\n  {}", examples.join("\n  ")));
    };
    match command.find_subcommand(name) {
        Some(_) => command.mut_subcommand(name, |command| with_examples(command, below, examples)),
        None => command,
    }
}

/// Returns the commands by group with a line for each. One without a group is in the last.
fn grouped(command: &Command) -> String {
    let of = |group: &str| {
        let all = command.get_subcommands();
        let names: Vec<_> = all.map(Command::get_name).collect();
        let ours = GROUPS
            .iter()
            .find(|(name, _)| *name == group)
            .map_or(&[][..], |(_, names)| names);
        let is_grouped = |name: &&str| GROUPS.iter().any(|(_, names)| names.contains(name));
        let rest = names
            .iter()
            .filter(|name| group == "Operate" && !is_grouped(name));
        let listed = ours.iter().filter(|name| names.contains(name));
        listed
            .chain(rest)
            .copied()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut text = String::new();
    for (group, _) in GROUPS {
        text += &format!("{group}:\n");
        for name in of(group) {
            let about = command.find_subcommand(&name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let lines = wrapped(&about, WIDTH - 15, usize::MAX);
            text += &format!(
                "  {name:11}  {}\n",
                lines.join(&format!("\n{}", " ".repeat(15)))
            );
        }
        text.push('\n');
    }
    text
}

fn settings() -> String {
    let mut help = String::from(
        "Settings (environment; a flag beats them, they beat the file of --config):\n",
    );
    for setting in SETTINGS {
        let default = setting
            .default
            .map(|default| format!(" [default: {default}]"))
            .unwrap_or_default();
        let text = format!("{}{default}", setting.help);
        let lines = wrapped(&text, WIDTH - 6, usize::MAX);
        help.push_str(&format!(
            "  {}\n      {}\n",
            setting.name,
            lines.join("\n      ")
        ));
    }
    help.push_str(&format!(
        "\nA secret can be in a file whose path is set, with _FILE after the name, as\n\
         in {GITHUB_WEBHOOK_SECRET}_FILE:\n  {}\n",
        SECRET_SETTINGS.join("\n  ")
    ));
    help.push_str("\nNO_COLOR turns colour off, in tables, help and logs.");
    help.push_str("\nExit codes: 0 ok, 1 failed, 2 called or configured wrongly.");
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command without commands below it.
    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for below in command
            .get_subcommands()
            .filter(|below| below.get_name() != "help")
        {
            let path = format!("{path} {}", below.get_name()).trim().to_owned();
            match below.has_subcommands() {
                true => leaves(below, &path, found),
                false => found.push((path, below.clone())),
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_parse_and_help_of_80_columns() {
        let mut root = command();
        root.build();
        let mut commands = vec![(String::new(), root.clone())];
        leaves(&root, "", &mut commands);
        for (path, mut leaf) in commands {
            for help in [leaf.render_help(), leaf.render_long_help()] {
                let help = help.to_string();
                for line in help.lines() {
                    assert!(line.chars().count() <= WIDTH, "{path}: {line}");
                }
                let examples = help.split_once("Examples:\n").map(|(_, examples)| examples);
                let examples = examples.unwrap_or_default().lines().map(str::trim);
                let examples: Vec<_> = examples.filter(|line| !line.is_empty()).collect();
                assert_eq!(examples.is_empty(), path.is_empty(), "{path}:\n{help}");
                for example in examples {
                    assert!(
                        example.starts_with(&format!("tallyhook {path}")),
                        "{example}"
                    );
                    let quoted = example.split('\'').enumerate();
                    let words = quoted.flat_map(|(place, part)| match place % 2 {
                        0 => part.split_whitespace().map(str::to_owned).collect(),
                        _ => vec![part.to_owned()],
                    });
                    let parsed = command().try_get_matches_from(words);
                    assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                }
            }
        }
    }
}
