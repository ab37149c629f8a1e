//! Where the servers under load keep things.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _};
use sqlx_postgres::{PgConnectOptions, PgConnection};

/// A database and a queue; children receive them as arguments.
#[derive(Args, Clone, Debug)]
pub(crate) struct Place {
    #[arg(long, hide = true)]
    pub(crate) database_url: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) amqp_url: Option<String>,
}

/// The database that `--services` makes, a new one for every measurement.
const NAME: &str = "tallyhook_load";

impl Place {
    /// An empty SQLite file below `folder`.
    pub(crate) fn embedded(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("database");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir(&folder)?;
        Ok(Self {
            database_url: Some(format!("sqlite://{}", folder.join("load.db").display())),
            amqp_url: None,
        })
    }

    /// An empty database and empty lanes on the servers that the environment names.
    #[tokio::main(flavor = "current_thread")]
    pub(crate) async fn on_services() -> anyhow::Result<Self> {
        let variable =
            |name| std::env::var(name).with_context(|| format!("{name} is not set: see --help"));
        let (server, amqp_url) = (variable("TEST_DATABASE_URL")?, variable("TEST_AMQP_URL")?);
        let mut connection = PgConnection::connect(&server).await?;
        for statement in [
            format!("DROP DATABASE IF EXISTS {NAME} WITH (FORCE)"),
            format!("CREATE DATABASE {NAME}"),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await?;
        }
        connection.close().await?;
        let broker = Connection::connect(&amqp_url, ConnectionProperties::default()).await?;
        let channel = broker.create_channel().await?;
        for lane in ["tallyhook.v1.live", "tallyhook.v1.backfill"] {
            channel
                .queue_delete(lane.into(), QueueDeleteOptions::default())
                .await?;
        }
        broker.close(200, "done".into()).await?;
        let options: PgConnectOptions = server.parse()?;
        let database_url = options.database(NAME).to_url_lossy().to_string();
        Ok(Self {
            database_url: Some(database_url),
            amqp_url: Some(amqp_url),
        })
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (name, url) in [
            ("--database-url", &self.database_url),
            ("--amqp-url", &self.amqp_url),
        ] {
            if let Some(url) = url {
                arguments.extend([name.to_owned(), url.clone()]);
            }
        }
        arguments
    }
}
