//! Sources of settings for the tests of this module.

use super::{Config, SettingSources};

/// Returns sources that read `environment` and the text of a file.
pub(super) fn sources(environment: &[(&str, &str)], file: &str) -> SettingSources {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    SettingSources::for_tests(environment.collect(), file)
}

/// Returns the error of a configuration from `environment`.
pub(super) fn error(environment: &[(&str, &str)]) -> String {
    Config::new(&sources(environment, ""))
        .err()
        .unwrap()
        .to_string()
}
