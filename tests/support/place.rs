//! Where a test's servers keep what they keep: a folder, and what is beside it if the run is one on services.

use std::path::Path;

use tempfile::TempDir;

#[cfg(feature = "services")]
use super::broker::Broker;
#[cfg(feature = "services")]
use super::database::{Backend, Database, database};

/// A store and a queue that nobody else has, gone at the end of the test.
pub(crate) struct Place {
    pub(crate) database_url: String,
    /// `None` is the queue inside the process.
    pub(crate) amqp_url: Option<String>,
    folder: TempDir,
    #[cfg(feature = "services")]
    services: (Option<Database>, Option<Broker>),
}

impl Place {
    /// Of the kind that this run is about: embedded, or PostgreSQL and RabbitMQ with `TALLYHOOK_TEST_ON=services`.
    pub(crate) async fn new() -> Self {
        match std::env::var("TALLYHOOK_TEST_ON").as_deref() {
            Err(_) | Ok("embedded") => Self::embedded(),
            #[cfg(feature = "services")]
            Ok("services") => Self::on_services().await,
            Ok(other) => {
                panic!("TALLYHOOK_TEST_ON={other} is nothing that these tests were built for")
            }
        }
    }

    /// SQLite, and the queue inside the process.
    pub(crate) fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            database_url: format!("sqlite://{}", folder.path().join("test.db").display()),
            amqp_url: None,
            folder,
            #[cfg(feature = "services")]
            services: (None, None),
        }
    }

    /// SQLite, and a virtual host of RabbitMQ.
    #[cfg(feature = "services")]
    pub(crate) async fn embedded_with_broker() -> Self {
        Self::embedded().with_broker().await
    }

    /// A database of PostgreSQL, and the queue inside the process.
    #[cfg(feature = "services")]
    pub(crate) fn on_postgres() -> Self {
        let database = database(Backend::Postgres);
        Self {
            database_url: database.url.clone(),
            services: (Some(database), None),
            ..Self::embedded()
        }
    }

    /// A database of PostgreSQL, and a virtual host of RabbitMQ.
    #[cfg(feature = "services")]
    pub(crate) async fn on_services() -> Self {
        let place = Self::on_postgres().with_broker().await;
        // For the program as a process, which finds its settings by the folder alone.
        let told = format!(
            "{}\n{}\n",
            place.database_url,
            place.amqp_url.as_deref().unwrap()
        );
        std::fs::write(place.path().join("services"), told).unwrap();
        place
    }

    #[cfg(feature = "services")]
    async fn with_broker(self) -> Self {
        let broker = Broker::new().await;
        Self {
            amqp_url: Some(broker.url.clone()),
            services: (self.services.0, Some(broker)),
            ..self
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}
