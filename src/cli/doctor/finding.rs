//! What was found, and what to do about it.

use serde::Serialize;

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) state: State,
    /// What was looked at.
    check: &'static str,
    /// Of which one, where there are several: a repository.
    of: Option<String>,
    /// How it is.
    pub(super) found: String,
    /// What to do; empty where it is well.
    pub(super) advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Ok,
    /// It works, and less well than it could, or not for long.
    Warning,
    Wrong,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(State::Ok, check, found, "")
    }

    pub(super) fn warning(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(State::Warning, check, found, advice)
    }

    pub(super) fn wrong(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(State::Wrong, check, found, advice)
    }

    fn new(
        state: State,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        // What others say may have line ends, and a line is what this is.
        let line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            state,
            check,
            of: None,
            found: line(found.into()),
            advice: line(advice.into()),
        }
    }

    /// Says of which one it is.
    pub(super) fn of(self, which: &str) -> Self {
        Self {
            of: Some(which.to_owned()),
            ..self
        }
    }

    pub(super) fn title(&self) -> String {
        self.of.as_ref().map_or_else(
            || self.check.to_owned(),
            |of| format!("{} of {of}", self.check),
        )
    }
}
