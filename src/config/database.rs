//! Settings of the database and of how long it keeps things.

use std::path::PathBuf;
use std::str::FromStr;

use super::{Config, ConfigError, SettingSources};

pub const DATABASE_URL: &str = "DATABASE_URL";

pub(super) fn url(sources: &SettingSources) -> String {
    sources.value(DATABASE_URL).unwrap_or_default().to_owned()
}

pub(super) fn retention_days(sources: &SettingSources) -> Result<u32, ConfigError> {
    days(sources, "DELIVERY_RETENTION_DAYS")
}

/// Reads a number of days after which something is deleted.
pub(super) fn days(sources: &SettingSources, name: &'static str) -> Result<u32, ConfigError> {
    let expected = "a number of days such as 7, at most 36500";
    let days = sources.parsed::<RetentionDays>(name, expected)?;
    Ok(days.0)
}

/// A number of days that stays within the range of dates when it is subtracted from today.
struct RetentionDays(u32);

impl FromStr for RetentionDays {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse()
            .ok()
            .filter(|days| *days <= 36_500)
            .map(Self)
            .ok_or(())
    }
}

impl Config {
    /// Returns the path of the admin token's file: beside the database if that is a file, else in
    /// the current folder.
    pub fn admin_token_path(&self) -> PathBuf {
        self.database_file()
            .unwrap_or_default()
            .with_file_name("tallyhook-admin-token")
    }

    /// Returns the path of the database, if it is a file.
    pub fn database_file(&self) -> Option<PathBuf> {
        tallyhook_store::sqlite_file(&self.database_url)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::{error, sources};
    use super::*;

    #[test]
    fn admin_token_is_beside_a_database_file() {
        for (url, path) in [
            (
                "sqlite:///var/lib/t/a.db?mode=rwc",
                "/var/lib/t/tallyhook-admin-token",
            ),
            ("sqlite:data/a.db", "data/tallyhook-admin-token"),
            (
                "sqlite:///srv/my%20data/a.db",
                "/srv/my data/tallyhook-admin-token",
            ),
            (
                "postgres://tallyhook:a/b@db.internal/tallyhook",
                "tallyhook-admin-token",
            ),
        ] {
            let config = Config::new(&sources(&[(DATABASE_URL, url)], ""))
                .ok()
                .unwrap();
            assert_eq!(config.admin_token_path(), Path::new(path));
        }
    }

    #[test]
    fn retention_out_of_range_is_refused() {
        assert!(error(&[("DELIVERY_RETENTION_DAYS", "-1")]).contains("expected a number of days"));
        assert!(error(&[("DELIVERY_RETENTION_DAYS", "99999999")]).contains("at most 36500"));
    }
}
