//! Settings of tasks.

use std::path::PathBuf;

use tallyhook_core::domain::task::Patterns;

use super::{ConfigError, Sources};

/// How tasks follow their pull requests.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// What links a pull request to tasks.
    pub patterns: Patterns,
    /// Whether a push to the branch of a task that is implemented makes its pull request.
    pub auto_pr: bool,
    /// Below which working trees are removed after the merge; `None` removes none.
    pub worktree_root: Option<PathBuf>,
}

pub(super) const TASK_KEY_PATTERNS: &str = "TASK_KEY_PATTERNS";

impl Tasks {
    /// # Errors
    /// Which setting is wrong, and what was expected.
    pub(super) fn new(sources: &Sources) -> Result<Self, ConfigError> {
        let patterns: Vec<_> = sources
            .value(TASK_KEY_PATTERNS)
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let patterns = Patterns::new(&patterns);
        Ok(Self {
            patterns: patterns
                .map_err(|error| ConfigError(format!("{TASK_KEY_PATTERNS} is wrong: {error}")))?,
            auto_pr: sources.parsed("TASK_AUTO_PR", "true or false")?,
            worktree_root: sources.value("WORKTREE_ROOT").map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{error, sources};
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_default_patterns_are_those_of_the_rules() {
        let default = super::super::default_of(TASK_KEY_PATTERNS).unwrap();
        assert!(default.split(' ').eq(Patterns::DEFAULT));
    }

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
            "TASK_AUTO_PR is `yes`, expected true or false"
        );
    }
}
