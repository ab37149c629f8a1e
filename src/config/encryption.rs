//! The keys of stored secrets.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{ConfigError, SettingSources, database};
use crate::secrets::{KeyRing, KeySource};

pub const TALLYHOOK_ENCRYPTION_KEYS: &str = "TALLYHOOK_ENCRYPTION_KEYS";

/// Returns the keys of the settings, or else those of the file beside a SQLite database.
pub(super) fn key_source(sources: &SettingSources) -> Result<KeySource, ConfigError> {
    let Some(text) = sources.value(TALLYHOOK_ENCRYPTION_KEYS) else {
        return Ok(KeySource::beside(&database::url(sources)));
    };
    let keys = KeyRing::parse(text).map_err(|why| {
        let message = format!("{TALLYHOOK_ENCRYPTION_KEYS} cannot be used: {why}");
        ConfigError::of(TALLYHOOK_ENCRYPTION_KEYS, message)
    })?;
    Ok(KeySource::Settings(Arc::new(keys)))
}

/// Refuses a file of keys that the group or all users can read. Its path is not shown, since it may
/// be a key that was pasted into the wrong setting.
pub(super) fn check_file(path: &Path) -> Result<(), String> {
    let others = std::fs::metadata(path).map_or(0, |found| found.mode() & 0o077);
    match others {
        0 => Ok(()),
        _ => Err(format!(
            "others can read the file that {TALLYHOOK_ENCRYPTION_KEYS}_FILE names: run `chmod 600` \
             on it as the user of this process"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::testing::{error, sources};
    use super::super::{Config, DATABASE_URL};
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn source(environment: &[(&str, &str)]) -> KeySource {
        let config = Config::new(&sources(environment, ""));
        config.ok().unwrap().key_source
    }

    #[test]
    fn keys_are_those_of_the_settings_or_beside_the_database() {
        let set = source(&[(TALLYHOOK_ENCRYPTION_KEYS, KEY)]);
        assert!(set.path().is_none() && set.keys().unwrap().is_some());
        let beside = source(&[(DATABASE_URL, "sqlite:///srv/t/a.db")]);
        assert_eq!(beside.path(), Some(Path::new("/srv/t/tallyhook-keys")));
        let none = source(&[(DATABASE_URL, "postgres://db/t")]);
        assert!(none.path().is_none() && none.keys().unwrap().is_none());
    }

    #[test]
    fn key_that_is_none_is_refused_and_not_shown() {
        let error = error(&[(TALLYHOOK_ENCRYPTION_KEYS, "carrot")]);
        let expected =
            "TALLYHOOK_ENCRYPTION_KEYS cannot be used: key 1 of the list is not 32 bytes";
        assert!(
            error.contains(expected) && !error.contains("carrot"),
            "{error}"
        );
    }

    #[test]
    fn file_of_keys_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, KEY).unwrap();
        for (mode, is_refused) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_file(&path).is_err(), is_refused, "{mode:o}");
        }
    }
}
