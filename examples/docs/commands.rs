//! The command line, from clap's definition of it.

use clap::{Arg, Command};
use tallyhook::cli;

use crate::markdown::{anchor, code, heading, one_line, table};

pub(crate) fn page() -> String {
    let mut root = cli::command();
    root.build();
    let mut page = heading("Commands", "`src/cli/`");
    page += "\n`tallyhook COMMAND --help` prints the same. Exit codes: 0 done, 1 failed, 2 called or \
             configured wrongly.\n";
    let leaves = leaves(&root, &[]);
    let rows: Vec<_> = leaves
        .iter()
        .map(|leaf| [leaf.link(), leaf.summary()])
        .collect();
    page += &table(["command", "does"], &rows);
    page += "\n## Options of every command\n";
    page += &arguments(
        root.get_arguments()
            .filter(|argument| argument.is_global_set()),
    );
    page += "\nThe environment and the file have more [settings](configuration.md).\n";
    for leaf in leaves {
        page += &leaf.section();
    }
    page
}

/// A command without commands below it, and its names from the root on.
struct Leaf {
    command: Command,
    path: Vec<String>,
}

/// All leaves below `command`, in the order of its help. `help` itself is left out.
fn leaves(command: &Command, path: &[String]) -> Vec<Leaf> {
    let commands = command
        .get_subcommands()
        .filter(|command| command.get_name() != "help");
    commands
        .flat_map(|command| {
            let path = [path, &[command.get_name().to_owned()]].concat();
            if command.has_subcommands() {
                leaves(command, &path)
            } else {
                vec![Leaf {
                    command: command.clone(),
                    path,
                }]
            }
        })
        .collect()
}

impl Leaf {
    fn title(&self) -> String {
        format!("tallyhook {}", self.path.join(" "))
    }

    fn link(&self) -> String {
        format!("[`{}`](#{})", self.title(), anchor(&self.title()))
    }

    fn summary(&self) -> String {
        self.command
            .get_about()
            .map(|about| about.to_string())
            .unwrap_or_default()
    }

    fn section(mut self) -> String {
        let about = self
            .command
            .get_long_about()
            .or(self.command.get_about())
            .map(|about| one_line(&about.to_string()));
        let usage = self.command.render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
        let own = self
            .command
            .get_arguments()
            .filter(|argument| !argument.is_global_set());
        format!(
            "\n## {}\n\n{}.\n\n```text\n{usage}\n```\n{}",
            self.title(),
            about.unwrap_or_default().trim_end_matches('.'),
            arguments(own)
        )
    }
}

fn arguments<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let shown = arguments.filter(|argument| !argument.is_hide_set() && argument.get_id() != "help");
    let rows: Vec<_> = shown
        .filter(|argument| argument.get_id() != "version")
        .map(row)
        .collect();
    table(["argument", "default", "meaning"], &rows)
}

fn row(argument: &Arg) -> [String; 3] {
    let takes_value = argument.get_action().takes_values();
    let values: Vec<_> = argument
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| format!("<{name}>"))
        .collect();
    let name = match argument.get_long() {
        None => values.join(" "),
        Some(long) if takes_value => format!("--{long} {}", values.join(" ")),
        Some(long) => format!("--{long}"),
    };
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    let default = if takes_value {
        code(&defaults.join(" "))
    } else {
        String::new()
    };
    let help = argument
        .get_help()
        .map(|help| help.to_string())
        .unwrap_or_default();
    let choices = argument.get_possible_values();
    let choices: Vec<_> = choices
        .iter()
        .filter(|_| takes_value)
        .map(|value| code(value.get_name()))
        .collect();
    let choices = if choices.is_empty() {
        String::new()
    } else {
        format!(": {}", choices.join(", "))
    };
    [code(name.trim_end()), default, format!("{help}{choices}")]
}
