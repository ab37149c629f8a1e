//! Settings of tasks.

use std::path::PathBuf;

use tallyhook_core::domain::task::Patterns;

use super::{ConfigError, SettingSources};

/// The settings of tasks and their pull requests.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    /// The patterns that link a pull request to tasks.
    pub patterns: Patterns,
    /// True opens the pull request of a task when its branch is pushed.
    pub auto_pr: bool,
    /// The folder of working trees that are removed after the merge; `None` removes none.
    pub worktree_root: Option<PathBuf>,
}

pub(super) const TASK_KEY_PATTERNS: &str = "TASK_KEY_PATTERNS";

impl TaskConfig {
    /// # Errors
    /// The first invalid setting and the expected form of its value.
    pub(super) fn new(sources: &SettingSources) -> Result<Self, ConfigError> {
        let text = sources.value(TASK_KEY_PATTERNS).unwrap_or_default();
        Ok(Self {
            patterns: Patterns::parse(text).map_err(|error| {
                ConfigError::of(
                    TASK_KEY_PATTERNS,
                    format!("{TASK_KEY_PATTERNS} is wrong: {error}"),
                )
            })?,
            auto_pr: sources.parsed("TASK_AUTO_PR", "true or false")?,
            worktree_root: sources.value("WORKTREE_ROOT").map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::testing::{error, sources};
    use super::*;
    use crate::config::Config;

    #[test]
    fn patterns_are_a_list_in_the_file_and_words_in_the_environment() {
        for (environment, file) in [
            (&[][..], "task_key_patterns = ['#(\\d+)', 'AB-\\d+']"),
            (&[(TASK_KEY_PATTERNS, "#(\\d+)  AB-\\d+")], ""),
        ] {
            let tasks = Config::new(&sources(environment, file)).ok().unwrap().tasks;
            let keys: BTreeSet<_> = tasks
                .patterns
                .keys("AB-7", "#8", "PROJ-9")
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(keys, ["8", "AB-7"].map(str::to_owned).into());
        }
        assert!(
            error(&[(TASK_KEY_PATTERNS, "a(")])
                .starts_with("TASK_KEY_PATTERNS is wrong: the pattern `a(`")
        );
        assert_eq!(
            error(&[("TASK_AUTO_PR", "yes")]),
            "TASK_AUTO_PR is `yes`, expected true or false; did you mean `true`?"
        );
    }
}
