//! URLs of the embedded database.

use std::path::PathBuf;

use sqlx_sqlite::SqliteConnectOptions;

use crate::{DatabaseUrlError, OpenMode};

/// Returns the path of the file that `url` names, decoded; `None` for another kind of database, and
/// for a URL that names none.
pub fn sqlite_file(url: &str) -> Option<PathBuf> {
    let options = url
        .starts_with("sqlite:")
        .then(|| parse(url, OpenMode::Shared));
    Some(options?.ok()?.get_filename().to_owned())
}

/// Parses a URL: `sqlite:FILE` or `sqlite://FILE`, the path percent-encoded where it needs to be.
///
/// # Errors
/// If it names no file, or one that a server could not write.
pub(crate) fn parse(
    url: &str,
    opening: OpenMode,
) -> Result<SqliteConnectOptions, DatabaseUrlError> {
    let wrong = |why: &str| DatabaseUrlError(format!("DATABASE_URL {why}"));
    let options = url
        .parse::<SqliteConnectOptions>()
        .map_err(|error| match error {
            sqlx::Error::Configuration(why) => {
                wrong(&format!("is wrong: {why}; expected sqlite://FILE"))
            }
            other => wrong(&format!("is wrong: {other}; expected sqlite://FILE")),
        })?;
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let has = |parameter| parameters.split('&').any(|given| given == parameter);
    let path = options.get_filename();
    if url.contains(":memory:") || has("mode=memory") {
        return Err(wrong(
            "names a database in memory, which would lose what was accepted: name a file, as in \
             sqlite://tallyhook.db",
        ));
    }
    let read_only = ["mode=ro", "immutable=1", "immutable=true"];
    if opening != OpenMode::Shared && read_only.into_iter().any(has) {
        return Err(wrong(
            "opens the database for reading only, and a server writes to it: leave the parameter \
             out",
        ));
    }
    if path.as_os_str().is_empty() {
        return Err(wrong(
            "names no file: expected sqlite://FILE, as in sqlite://tallyhook.db or \
             sqlite:///var/lib/tallyhook/tallyhook.db",
        ));
    }
    if path.is_dir() {
        let folder = path.display();
        return Err(wrong(&format!(
            "names the folder {folder}: name a file in it, as in sqlite://{}/tallyhook.db",
            folder.to_string().trim_end_matches('/')
        )));
    }
    if path.starts_with("~") {
        return Err(wrong(
            "begins with ~, which no shell expands there: write the path of your home folder",
        ));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn forms_that_people_write_name_the_same_file_as_the_database() {
        for (url, path) in [
            ("sqlite:t.db", Some("t.db")),
            ("sqlite://rel/t.db", Some("rel/t.db")),
            ("sqlite:/abs/t.db", Some("/abs/t.db")),
            ("sqlite:///abs/t.db?mode=rwc", Some("/abs/t.db")),
            ("sqlite:///srv/my%20data/t.db", Some("/srv/my data/t.db")),
            ("sqlite:///srv/100%/a%3Fb.db", Some("/srv/100%/a?b.db")),
            ("sqlite:///srv/ä/t.db", Some("/srv/ä/t.db")),
            ("postgres://me:a/b@db.internal/t", None),
            ("sqlite://", None),
        ] {
            assert_eq!(sqlite_file(url).as_deref(), path.map(Path::new), "{url}");
        }
    }
}
