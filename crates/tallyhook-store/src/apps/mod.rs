//! The GitHub App that was made from the manifest: one at most.

use sqlx::FromRow;

use crate::columns::{Millis, storable_text};
use crate::database::statement;
use crate::{Moment, Result, Store};

/// An App, with its secrets sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredApp {
    /// GitHub's id of it.
    pub app_id: i64,
    pub slug: String,
    pub client_id: String,
    /// Its page at GitHub.
    pub html_url: String,
    pub secrets: Vec<u8>,
    pub created_at: Moment,
}

#[derive(FromRow)]
struct AppRow {
    app_id: i64,
    slug: String,
    client_id: String,
    html_url: String,
    secrets: Vec<u8>,
    created_at: Millis,
}

impl Store {
    /// Stores the App in place of the one before.
    pub async fn put_app(&self, app: &StoredApp) -> Result<()> {
        let insert = statement(
            "INSERT INTO github_apps (id, app_id, slug, client_id, html_url, secrets, created_at) \
             VALUES ('app', $1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET \
             app_id = excluded.app_id, slug = excluded.slug, client_id = excluded.client_id, \
             html_url = excluded.html_url, secrets = excluded.secrets, \
             created_at = excluded.created_at",
        )
        .bind(app.app_id)
        .bind(storable_text(&app.slug))
        .bind(storable_text(&app.client_id))
        .bind(storable_text(&app.html_url))
        .bind(app.secrets.as_slice())
        .bind(Millis(app.created_at));
        self.database.execute(insert).await.map(|_| ())
    }

    pub async fn app(&self) -> Result<Option<StoredApp>> {
        let query =
            "SELECT app_id, slug, client_id, html_url, secrets, created_at FROM github_apps";
        let row: Option<AppRow> = self.database.row(statement(query)).await?;
        Ok(row.map(|row| StoredApp {
            app_id: row.app_id,
            slug: row.slug,
            client_id: row.client_id,
            html_url: row.html_url,
            secrets: row.secrets,
            created_at: row.created_at.0,
        }))
    }

    /// Forgets the App. Returns `false` if there is none.
    pub async fn delete_app(&self) -> Result<bool> {
        let delete = statement("DELETE FROM github_apps");
        Ok(self.database.execute(delete).await? > 0)
    }
}
