//! The settings, from the list that the program reads.

use tallyhook::config::{CHANNEL_KEYS, GITHUB_WEBHOOK_SECRET, SECRET_SETTINGS, SETTINGS};

use crate::markdown::{code, heading, table};

const EXAMPLE: &str = r#"
```toml
# tallyhook serve --config tallyhook.toml
database_url = "sqlite:///var/lib/tallyhook/tallyhook.db"
github_repo_owner = "acme-corp"
github_repo_name = "api-server"
bot_logins = ["acme-deploy", "acme-release"]
```
"#;

pub(crate) fn page() -> String {
    let mut page = heading("Configuration", "`src/config/`");
    page += "\nSet these in the environment, or in a TOML file that `--config` names, with the names \
             in lower case. `--listen` and `--database-url` are flags. A flag beats the environment, \
             which beats the file. An empty variable counts as not set, and an unknown key of the file is refused.\n";
    let secrets: Vec<_> = SECRET_SETTINGS.iter().map(|name| code(name)).collect();
    page += &format!(
        "\nA secret can be in a file of its own, whose path is set with `_FILE` after the name, as in \
         `{GITHUB_WEBHOOK_SECRET}_FILE`, or `github_webhook_secret_file` in the file: {}. To set \
         both is an error.\n",
        secrets.join(", ")
    );
    let rows: Vec<_> = SETTINGS
        .iter()
        .map(|setting| {
            [
                code(setting.name),
                setting.default.map_or("none".to_owned(), code),
                setting.help.to_owned(),
            ]
        })
        .collect();
    page += &table(["setting", "default", "meaning"], &rows);
    page += "\n`RUST_LOG` sets log levels, as in `RUST_LOG=tallyhook=debug`.\n\n## The file\n";
    page += EXAMPLE;
    let keys: Vec<_> = CHANNEL_KEYS.iter().map(|key| code(key)).collect();
    page += &format!(
        "\nThe file alone can have [channels](../guides/notifications.md#channels), as \
         tables `[[channel]]` with the keys {}.\n",
        keys.join(", ")
    );
    page
}
