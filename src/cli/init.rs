//! `tallyhook init`

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use rand::RngExt;
use rustix::process::{getegid, geteuid};

use super::{CommandFailure, CommandResult, output};
use crate::config::SETTINGS;

const CONFIG: &str = "tallyhook.toml";
const SECRET: &str = "webhook-secret";
/// The units as the repository has them: for the program, folder and user named here.
const UNITS: [(&str, &str); 2] = [
    (
        "tallyhook.service",
        include_str!("../../deploy/tallyhook.service"),
    ),
    (
        "tallyhook.socket",
        include_str!("../../deploy/tallyhook.socket"),
    ),
];
const UNIT_PROGRAM: &str = "/usr/local/bin/tallyhook";
const UNIT_FOLDER: &str = "/var/lib/tallyhook";
const UNIT_USER: &str = "tallyhook";
const UNIT_LISTEN: &str = "127.0.0.1:8080";
/// The folder from which systemd reads units of this machine.
const SYSTEMD: &str = "/etc/systemd/system";
/// The width of comments in the file.
const COMMENT_WIDTH: usize = 96;

/// Settings that the file has as comments: the key, an example of its value, and the setting of
/// which it has the help.
const EXAMPLES: [(&str, &str, &str); 9] = [
    (
        "github_token_file",
        "\"/etc/tallyhook/github-token\"",
        "GITHUB_TOKEN",
    ),
    ("github_repo_owner", "\"acme-corp\"", "GITHUB_REPO_OWNER"),
    ("github_repo_name", "\"api-server\"", "GITHUB_REPO_NAME"),
    (
        "github_api_url",
        "\"https://github.example.com/api/v3\"",
        "GITHUB_API_URL",
    ),
    (
        "bot_logins",
        "[\"acme-deploy\", \"acme-release\"]",
        "BOT_LOGINS",
    ),
    (
        "task_key_patterns",
        "['[A-Z][A-Z0-9]+-\\d+', 'story-(\\d+)']",
        "TASK_KEY_PATTERNS",
    ),
    ("delivery_retention_days", "7", "DELIVERY_RETENTION_DAYS"),
    ("worktree_root", "\"/srv/worktrees\"", "WORKTREE_ROOT"),
    (
        "slack_webhook_url_file",
        "\"/etc/tallyhook/slack-url\"",
        "SLACK_WEBHOOK_URL",
    ),
];

/// The signed-in user, or for root one that only runs Tallyhook.
struct UnitUser {
    user: String,
    group: String,
    is_new: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: tallyhook init && tallyhook serve --config tallyhook.toml")]
pub(super) struct InitArgs {
    /// Folder of the configuration, the secret and the database; created for this user alone
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Address and port that the server is to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = UNIT_LISTEN)]
    listen: SocketAddr,
    /// Write systemd's units tallyhook.service and tallyhook.socket into this folder, too; - prints
    /// them
    #[arg(long, value_name = "FOLDER")]
    systemd: Option<PathBuf>,
}

/// A file that is to be written.
struct NewFile {
    path: PathBuf,
    text: String,
    mode: u32,
    /// The flag that chooses its folder.
    flag: &'static str,
}

impl InitArgs {
    /// Writes all files, or none if one of them exists or cannot be written.
    pub(super) fn run(self, config: Option<&Path>) -> CommandResult {
        if config.is_some() {
            return Err(CommandFailure::Usage(format!(
                "init reads no --config: it writes {CONFIG} into the folder that --folder names"
            )));
        }
        let user = unit_user();
        if self.systemd.is_some() && user.is_new {
            refuse_used_home(&self.folder)?;
        }
        let folder = create_folder(&self.folder)?;
        let shown = plain(&folder, &[])?;
        let (config, secret) = (folder.join(CONFIG), folder.join(SECRET));
        let mut files = vec![
            NewFile {
                path: secret,
                text: format!("{}\n", new_secret()),
                mode: 0o600,
                flag: "--folder",
            },
            NewFile {
                path: config,
                text: configuration(shown, self.listen),
                mode: 0o600,
                flag: "--folder",
            },
        ];
        let mut printed = String::new();
        if let Some(place) = &self.systemd {
            // These have a meaning in units.
            let program = std::env::current_exe().context("cannot find this program's path")?;
            let program = plain(&program, &[' ', '%', '$', '\''])?;
            let folder = plain(&folder, &[' ', '%', '$', '\''])?;
            for (name, unit) in UNITS {
                let text = adapt(unit, program, folder, &user, self.listen);
                if place.as_os_str() == "-" {
                    printed.push_str(&format!("\n# {name}\n{text}"));
                } else {
                    files.push(NewFile {
                        path: place.join(name),
                        text,
                        mode: 0o644,
                        flag: "--systemd",
                    });
                }
            }
        }
        write_all(&files)?;
        for file in &files {
            output::line(&format!("wrote {}", file.path.display()))?;
        }
        if !printed.is_empty() {
            output::line(&printed)?;
        }
        output::line(&next_steps(shown, self.systemd.as_deref(), &user))
    }
}

/// Refuses a folder that holds something: the next steps give it to the new user as its home, with
/// all that is in it. The folder that the units name belongs to Tallyhook alone.
fn refuse_used_home(folder: &Path) -> anyhow::Result<()> {
    let is_used = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    let is_own = folder
        .canonicalize()
        .is_ok_and(|folder| folder == Path::new(UNIT_FOLDER));
    if is_used && !is_own {
        bail!(
            "{} is not empty, and the user {UNIT_USER} would own all that is in it: \
             use --folder {UNIT_FOLDER}",
            folder.display()
        );
    }
    Ok(())
}

fn create_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.exists() && !folder.is_dir() {
        bail!(
            "{} is not a folder: choose another --folder",
            folder.display()
        );
    }
    if !folder.exists() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    folder
        .canonicalize()
        .with_context(|| format!("cannot use the folder {}", folder.display()))
}

/// Returns a path that can be written into the files as it is.
fn plain<'p>(path: &'p Path, refused: &[char]) -> anyhow::Result<&'p str> {
    let is_good = |letter: char| {
        !letter.is_control() && !['"', '\\'].contains(&letter) && !refused.contains(&letter)
    };
    path.to_str()
        .filter(|path| path.chars().all(is_good))
        .with_context(|| {
            format!(
                "the path {} has a character that these files cannot have: choose another --folder",
                path.display()
            )
        })
}

fn new_secret() -> String {
    let bits: [u8; 32] = rand::rng().random();
    hex::encode(bits)
}

fn configuration(folder: &str, listen: SocketAddr) -> String {
    let encoded = folder
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23")
        .replace(' ', "%20");
    let mut text = format!(
        "# Settings of Tallyhook. A variable of the environment with the name in upper case beats this\n\
         # file; `tallyhook config show --config {folder}/{CONFIG}` shows what is in force.\n\n\
         # The secret that GitHub signs webhooks with.\n\
         github_webhook_secret_file = \"{folder}/{SECRET}\"\n\n\
         # The database; an admin token is written beside it at the first start.\n\
         database_url = \"sqlite://{encoded}/tallyhook.db\"\n\n\
         # Address and port; a proxy with TLS in front of it takes GitHub's requests.\n\
         tallyhook_listen = \"{listen}\"\n\n\
         # More settings. `tallyhook --help` lists the rest.\n"
    );
    for (key, example, setting) in EXAMPLES {
        let help = SETTINGS.iter().find(|known| known.name == setting);
        let help = help.map_or("", |setting| setting.help);
        text.push('\n');
        text.push_str(&comment(help));
        text.push_str(&format!("# {key} = {example}\n"));
    }
    text.push_str(
        "\n# Receivers of notifications, below all other settings.\n# [[channel]]\n# name = \"ops\"\n\
         # kind = \"webhook\"\n# url = \"https://ops.example.com/tallyhook\"\n",
    );
    text
}

/// Breaks a text into lines of a comment.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].len() + 1 + word.len() > COMMENT_WIDTH {
            lines.push(String::from("#"));
        }
        let last = lines.len() - 1;
        lines[last].push(' ');
        lines[last].push_str(word);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn unit_user() -> UnitUser {
    let is_new = geteuid().is_root();
    let (user, group) = if is_new {
        (UNIT_USER.to_owned(), UNIT_USER.to_owned())
    } else {
        (
            geteuid().as_raw().to_string(),
            getegid().as_raw().to_string(),
        )
    };
    UnitUser {
        user,
        group,
        is_new,
    }
}

/// Returns a unit for this program, folder, user and address.
fn adapt(unit: &str, program: &str, folder: &str, user: &UnitUser, listen: SocketAddr) -> String {
    let is_home = |path: &str| {
        ["/home/", "/root"]
            .iter()
            .any(|home| path.starts_with(home))
    };
    let home = if is_home(folder) || is_home(program) {
        // The folder itself is made writable.
        "ProtectHome=read-only"
    } else {
        "ProtectHome=yes"
    };
    // The program may be below UNIT_FOLDER: its path is put in after that is replaced.
    unit.replace(UNIT_FOLDER, folder)
        .replace(UNIT_PROGRAM, program)
        .replace("User=tallyhook", &format!("User={}", user.user))
        .replace("Group=tallyhook", &format!("Group={}", user.group))
        .replace("ProtectHome=yes", home)
        .replace(UNIT_LISTEN, &listen.to_string())
}

/// Writes the files, or none of them if one exists or cannot be written.
fn write_all(files: &[NewFile]) -> anyhow::Result<()> {
    if let Some(file) = files
        .iter()
        .find(|file| file.path.symlink_metadata().is_ok())
    {
        bail!(
            "{} exists, and nothing is overwritten: remove it, or choose another {}",
            file.path.display(),
            file.flag
        );
    }
    let mut created = Vec::new();
    for file in files {
        if let Err(error) = write_new(file, &mut created) {
            for path in created {
                // The first failure is the one to report.
                let _ = std::fs::remove_file(path);
            }
            return Err(error).with_context(|| format!("cannot write {}", file.path.display()));
        }
    }
    Ok(())
}

/// Writes a file, and notes it as soon as it is this run's.
fn write_new<'f>(file: &'f NewFile, created: &mut Vec<&'f Path>) -> std::io::Result<()> {
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(&file.path)?;
    created.push(&file.path);
    out.write_all(file.text.as_bytes())
}

fn next_steps(folder: &str, systemd: Option<&Path>, user: &UnitUser) -> String {
    let config = format!("{folder}/{CONFIG}");
    let start = match systemd {
        None => format!("Start it:\n     tallyhook serve --config {config}"),
        Some(place) => {
            let mut start = String::from("Start it, as root:\n");
            if user.is_new {
                start.push_str(&format!(
                    "     useradd --system --home-dir {folder} --shell /usr/sbin/nologin {UNIT_USER}\n     \
                     chown -R {UNIT_USER}: {folder}\n"
                ));
            }
            if place != Path::new(SYSTEMD) && place != Path::new("-") {
                let place = place.display();
                start.push_str(&format!(
                    "     install -m 644 {place}/tallyhook.socket {place}/tallyhook.service {SYSTEMD}\n"
                ));
            }
            start.push_str(
                "     systemctl daemon-reload\n     \
                 systemctl enable --now tallyhook.socket tallyhook.service",
            );
            start
        }
    };
    format!(
        "\nNext:\n  1. {start}\n  \
         2. At GitHub, in the settings of a repository or organisation, add a webhook:\n     \
         URL https://YOUR-HOST/webhooks/github, content type application/json,\n     \
         secret: the text in {folder}/{SECRET}\n  \
         3. See what is missing:\n     tallyhook doctor --config {config}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_program_the_folder_the_user_and_the_address() {
        let [(_, unit), (_, socket)] = UNITS;
        let root = UnitUser {
            user: UNIT_USER.to_owned(),
            group: UNIT_USER.to_owned(),
            is_new: true,
        };
        let listen = UNIT_LISTEN.parse().unwrap();
        for unit in [unit, socket] {
            let same = adapt(unit, UNIT_PROGRAM, UNIT_FOLDER, &root, listen);
            assert_eq!(same, unit, "the repository's units are those of this case");
        }
        let me = UnitUser {
            user: "1000".to_owned(),
            group: "1001".to_owned(),
            is_new: false,
        };
        let listen = "0.0.0.0:9000".parse().unwrap();
        let adapted = adapt(unit, "/opt/tallyhook", "/home/me/t", &me, listen);
        for line in [
            "ExecStart=/opt/tallyhook serve --config /home/me/t/tallyhook.toml --log-format json",
            "User=1000",
            "Group=1001",
            "ReadWritePaths=/home/me/t",
            "ProtectHome=read-only",
        ] {
            assert!(adapted.lines().any(|found| found == line), "{adapted}");
        }
        let below = "/var/lib/tallyhook/bin/tallyhook";
        let adapted = adapt(unit, below, "/srv/t", &me, listen);
        assert!(adapted.contains(&format!("ExecStart={below} serve --config /srv/t/")));
        let adapted = adapt(socket, "/opt/tallyhook", "/home/me/t", &me, listen);
        assert!(adapted.contains("ListenStream=0.0.0.0:9000"), "{adapted}");
    }
}
