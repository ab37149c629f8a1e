//! Storage and queue of one test: a folder, and a database and a virtual host if the run is on
//! services.

use std::path::Path;

use tempfile::TempDir;

use crate::broker::Broker;
use crate::database::{Backend, Database, database, run_on_sqlite};

/// A store and a queue of one test, deleted at its end.
pub struct Place {
    pub database_url: String,
    /// `None` selects the in-process queue.
    pub amqp_url: Option<String>,
    folder: TempDir,
    services: (Option<Database>, Option<Broker>),
}

impl Place {
    /// Creates a place of the kind this run tests: embedded, or PostgreSQL and RabbitMQ with
    /// `TALLYHOOK_TEST_ON=services`.
    pub async fn new() -> Self {
        match std::env::var("TALLYHOOK_TEST_ON").as_deref() {
            Err(_) | Ok("embedded") => Self::embedded(),
            Ok("services") => Self::on_services().await,
            Ok(other) => {
                panic!("TALLYHOOK_TEST_ON is `{other}`: expected `embedded` or `services`")
            }
        }
    }

    /// Creates a SQLite database with the in-process queue.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            database_url: format!("sqlite://{}", folder.path().join("test.db").display()),
            amqp_url: None,
            folder,
            services: (None, None),
        }
    }

    /// Creates a SQLite database and a virtual host of RabbitMQ.
    pub async fn embedded_with_broker() -> Self {
        Self::embedded().with_broker().await
    }

    /// Creates a PostgreSQL database with the in-process queue.
    pub fn on_postgres() -> Self {
        let database = database(Backend::Postgres);
        Self {
            database_url: database.url.clone(),
            services: (Some(database), None),
            ..Self::embedded()
        }
    }

    /// Creates a PostgreSQL database and a virtual host of RabbitMQ.
    pub async fn on_services() -> Self {
        let place = Self::on_postgres().with_broker().await;
        // Commands of `process::tallyhook` know the folder alone, and read their settings from this
        // file.
        let settings = format!(
            "{}\n{}\n",
            place.database_url,
            place.amqp_url.as_deref().unwrap()
        );
        std::fs::write(place.path().join("services"), settings).unwrap();
        place
    }

    /// Returns its PostgreSQL database, if that is its kind.
    pub fn postgres(&self) -> Option<&Database> {
        self.services.0.as_ref()
    }

    async fn with_broker(self) -> Self {
        let broker = Broker::new().await;
        Self {
            amqp_url: Some(broker.url.clone()),
            services: (self.services.0, Some(broker)),
            ..self
        }
    }

    /// Runs statements on its database.
    pub async fn execute(&self, sql: &str) {
        match self.postgres() {
            Some(database) => database.run(sql).await,
            None => run_on_sqlite(&self.database_url, sql).await,
        }
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
