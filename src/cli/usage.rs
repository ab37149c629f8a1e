//! Wrong calls of the program, in one line.

use clap::error::ErrorKind;

use super::command;

/// Returns the error in one line, with the help that shows the right call; `None` for help and
/// version, which are not errors, and for the help of a call without a command.
pub(super) fn usage_error(error: &clap::Error) -> Option<String> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
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
    Some(format!(
        "{message}; `{} --help` shows the right call",
        called(std::env::args())
    ))
}

/// Returns the commands that were called, without their arguments.
fn called(arguments: impl Iterator<Item = String>) -> String {
    let mut command = command();
    let mut called = command.get_name().to_owned();
    for argument in arguments.skip(1) {
        if let Some(found) = command.find_subcommand(&argument).cloned() {
            called = format!("{called} {}", found.get_name());
            command = found;
        }
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_call_is_one_line_with_the_help_to_read() {
        let called = |line: &str| called(line.split(' ').map(str::to_owned));
        assert_eq!(called("tallyhook --bogus"), "tallyhook");
        assert_eq!(
            called("tallyhook --log-format json dead requeue 7 --bogus"),
            "tallyhook dead requeue"
        );
        let error = |line: &str| {
            let error = command().try_get_matches_from(line.split(' ')).unwrap_err();
            usage_error(&error)
        };
        for (line, words) in [
            ("t serve --bogus", "unexpected argument '--bogus' found"),
            ("t serv", "a similar subcommand exists: 'serve'"),
            ("t serve --role ingst", "a similar value exists: 'ingest'"),
            ("t replay", "were not provided: <PATH"),
        ] {
            let error = error(line).unwrap();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
            assert!(error.ends_with("--help` shows the right call"), "{error}");
        }
        assert_eq!(error("t --help"), None);
    }
}
