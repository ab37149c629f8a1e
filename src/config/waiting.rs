//! Settings of what an open pull request waits for.

use std::collections::BTreeMap;

use serde::Deserialize;
use tallyhook_core::domain::waiting::WaitingRules;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::channels::repository_pattern;
use super::file::FileLine;
use super::{ConfigError, SettingSources};

pub(super) const REQUIRED_APPROVALS: &str = "REQUIRED_APPROVALS";

/// The name of the table of those who review where no one is asked.
pub(super) const DEFAULT_REVIEWERS: &str = "default_reviewers";

/// The form of a team among reviewers.
const TEAM: &str = "github_team:";

/// GitHub's own limit of approvals that a rule of a branch can require.
const MOST_APPROVALS: usize = 6;

/// The slugs of teams by repository, or by all repositories of an owner.
pub(super) type DefaultReviewers = BTreeMap<String, Vec<String>>;

/// # Errors
/// The setting that is invalid, and the expected form of its value.
pub(super) fn rules(sources: &SettingSources) -> Result<WaitingRules, ConfigError> {
    Ok(WaitingRules {
        required_approvals: sources.within(REQUIRED_APPROVALS, 0..=MOST_APPROVALS)?,
        default_reviewers: sources.default_reviewers.clone(),
    })
}

/// Reads the table [`DEFAULT_REVIEWERS`] of a file with `text`, which stands at `line`.
///
/// # Errors
/// The first entry that is wrong, with its line.
pub(super) fn default_reviewers(
    text: &str,
    line: FileLine,
    value: Spanned<DeValue<'_>>,
) -> Result<DefaultReviewers, ConfigError> {
    type Table = BTreeMap<Spanned<String>, Vec<String>>;
    let table = Table::deserialize(ValueDeserializer::from(value)).map_err(|error| {
        let line = error.span().map_or(line, |span| FileLine::of(text, span));
        ConfigError::new(error.message()).at(line)
    })?;
    let teams = table.into_iter().map(|(repository, reviewers)| {
        let line = FileLine::of(text, repository.span());
        let wrong = || {
            let wrong = format!("one of `{DEFAULT_REVIEWERS}` is wrong");
            ConfigError::new(format!("{wrong}: expected owner/name or owner/*"))
        };
        let pattern = repository_pattern(repository.get_ref()).ok_or_else(wrong);
        let teams = reviewers.iter().map(|reviewer| parse_team(reviewer));
        let teams = teams.collect::<Result<Vec<_>, _>>();
        pattern
            .and_then(|pattern| Ok((pattern, teams?)))
            .map_err(|error| error.at(line))
    });
    teams.collect()
}

fn parse_team(text: &str) -> Result<String, ConfigError> {
    let slug = text.strip_prefix(TEAM).filter(|slug| {
        let is_of_slug = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        !slug.is_empty() && slug.chars().all(is_of_slug)
    });
    slug.map(str::to_ascii_lowercase).ok_or_else(|| {
        ConfigError::new(format!(
            "`{DEFAULT_REVIEWERS}` has `{text}`: expected {TEAM}SLUG, the team's name in the \
             address of its page"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::file::parse_file;
    use super::super::testing::sources;
    use super::*;
    use crate::config::Config;

    fn waiting(file: &str) -> Result<WaitingRules, String> {
        let parsed = parse_file(file).map(drop);
        let config = parsed.and_then(|()| Config::new(&sources(&[], file)));
        let waiting = config.map(|config| config.numbers.waiting);
        waiting.map_err(|error| error.to_string())
    }

    #[test]
    fn one_approval_is_required_and_no_one_reviews_by_default() {
        let config = Config::new(&sources(&[], "")).ok().unwrap();
        assert_eq!(config.numbers.waiting, WaitingRules::default());
        let config = Config::new(&sources(&[(REQUIRED_APPROVALS, "2")], ""))
            .ok()
            .unwrap();
        assert_eq!(config.numbers.waiting.required_approvals, 2);
    }

    #[test]
    fn default_reviewers_are_teams_by_repository_in_lower_case() {
        let file = "[default_reviewers]\n\"Acme-Corp/*\" = [\"github_team:Backend\"]\n\
                    \"acme-corp/web\" = [\"github_team:web\", \"github_team:design\"]\n";
        let teams = |slugs: &[&str]| slugs.iter().map(|slug| (*slug).to_owned()).collect();
        let expected = [
            ("acme-corp/*".to_owned(), teams(&["backend"])),
            ("acme-corp/web".to_owned(), teams(&["web", "design"])),
        ];
        assert_eq!(waiting(file).unwrap().default_reviewers, expected.into());
    }

    #[test]
    fn documented_example_is_accepted() {
        let text = include_str!("../../docs/concepts/waiting.md");
        let example = text.split("```toml").nth(1).unwrap();
        let waiting = waiting(example.split("```").next().unwrap()).unwrap();
        assert_eq!(waiting.required_approvals, 2);
        assert_eq!(waiting.default_reviewers.len(), 2);
    }

    #[test]
    fn wrong_reviewers_are_named_with_their_line() {
        for (file, message) in [
            (
                "[default_reviewers]\n\"acme-corp/*\" = [\"backend\"]\n",
                "line 2: `default_reviewers` has `backend`: expected github_team:SLUG, the team's \
                 name in the address of its page",
            ),
            (
                "[default_reviewers]\nacme = [\"github_team:a\"]\n",
                "line 2: one of `default_reviewers` is wrong: expected owner/name or owner/*",
            ),
            (
                "[default_reviewers]\n\"acme-corp/*\" = \"github_team:a\"\n",
                "line 2: invalid type: string \"github_team:a\", expected a sequence",
            ),
            (
                "required_approvals = 7\n",
                "line 1: REQUIRED_APPROVALS is `7`, expected one from 0 to 6 such as 1",
            ),
        ] {
            assert_eq!(waiting(file).unwrap_err(), message);
        }
    }
}
