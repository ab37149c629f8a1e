//! Results of the checks, and how to fix what is wrong.

use serde::Serialize;
use utoipa::ToSchema;

/// The result of one check.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DoctorFinding)]
pub struct Finding {
    pub state: CheckState,
    /// The name of the check.
    #[schema(example = "database")]
    pub check: &'static str,
    /// The subject, if there are several: a repository or channel.
    pub of: Option<String>,
    /// The state that was found.
    pub found: String,
    /// The next step; empty if all is well.
    pub advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Ok,
    /// It works, but not well or not for long.
    Warning,
    Wrong,
}

impl CheckState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(CheckState::Ok, check, found, "")
    }

    pub(super) fn warning(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(CheckState::Warning, check, found, advice)
    }

    pub(super) fn wrong(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(CheckState::Wrong, check, found, advice)
    }

    fn new(
        state: CheckState,
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        // Foreign texts may have line breaks; a finding is one line.
        let line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            state,
            check,
            of: None,
            found: line(found.into()),
            advice: line(advice.into()),
        }
    }

    /// Sets the subject.
    pub(super) fn of(self, which: &str) -> Self {
        Self {
            of: Some(which.to_owned()),
            ..self
        }
    }

    /// Returns the name of the check, with its subject.
    pub fn title(&self) -> String {
        self.of.as_ref().map_or_else(
            || self.check.to_owned(),
            |of| format!("{} of {of}", self.check),
        )
    }
}
