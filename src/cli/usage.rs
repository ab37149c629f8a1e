//! Wrong calls of the program, in one line.

use clap::Command;
use clap::error::ErrorKind;

use super::command;

/// Returns the error in one line, with the help that shows the right call; `None` where the help
/// itself is to be shown: on demand, and for a call without anything.
pub(super) fn usage_error(
    error: &clap::Error,
    arguments: impl Iterator<Item = String>,
) -> Option<String> {
    if !error.use_stderr() {
        return None;
    }
    let (called, command) = called(arguments);
    let advice = format!("`{called} --help` shows the right call");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let commands: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        let is_whole = command.get_name() == called;
        return (!is_whole).then(|| {
            format!(
                "`{called}` needs a command: {}; {advice}",
                commands.join(", ")
            )
        });
    }
    let text = error.to_string();
    let lines = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<_> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let message = words.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    Some(format!("{message}; {advice}"))
}

/// Returns the commands that were called, without their arguments, and the last of them.
fn called(arguments: impl Iterator<Item = String>) -> (String, Command) {
    let mut command = command();
    let mut called = command.get_name().to_owned();
    for argument in arguments.skip(1) {
        if let Some(found) = command.find_subcommand(&argument).cloned() {
            called = format!("{called} {}", found.get_name());
            command = found;
        }
    }
    (called, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_call_is_one_line_with_the_help_to_read() {
        let error = |line: &str| {
            let error = command().try_get_matches_from(line.split(' ')).unwrap_err();
            usage_error(&error, line.split(' ').map(str::to_owned))
        };
        for (line, words, help) in [
            ("t --bogus", "unexpected argument '--bogus' found", ""),
            ("t migrat", "a similar subcommand exists: 'migrate'", ""),
            (
                "t serve --role ingst",
                "a similar value exists: 'ingest'",
                " serve",
            ),
            ("t replay", "were not provided: <PATH", " replay"),
            (
                "t --log-format json dead requeue x",
                "invalid value 'x'",
                " dead requeue",
            ),
            (
                "t deliveries",
                "needs a command: list, show, export",
                " deliveries",
            ),
        ] {
            let error = error(line).unwrap();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
            let help = format!("; `tallyhook{help} --help` shows the right call");
            assert!(error.ends_with(&help), "{error}");
        }
        for line in ["t", "t --help", "t dead --help", "t --version"] {
            assert_eq!(error(line), None, "{line}");
        }
    }
}
