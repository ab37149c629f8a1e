//! A team: the tenant to which tokens, tasks and channels belong.

use sqlx::FromRow;

use crate::columns::storable_text;
use crate::database::{Lock, statement};
use crate::{Result, Store};

/// The id of a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TeamId(pub i64);

/// The team to which everything belongs while there is one.
pub const DEFAULT_TEAM: (TeamId, &str) = (TeamId(1), "default");

/// A team by its id and the slug that paths name it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamRecord {
    pub id: TeamId,
    pub name: String,
}

#[derive(FromRow)]
struct TeamRow {
    id: i64,
    name: String,
}

impl From<TeamRow> for TeamRecord {
    fn from(row: TeamRow) -> Self {
        Self {
            id: TeamId(row.id),
            name: row.name,
        }
    }
}

impl Store {
    /// Creates a team under a slug. Returns `None` if there is one of that slug.
    pub async fn create_team(&self, slug: &str) -> Result<Option<TeamId>> {
        let mut writer = self.database.writer().await?;
        let mut transaction = writer.begin().await?;
        // Two teams are never made from one look at the greatest id.
        transaction.lock(Lock::Members).await?;
        let insert = statement(
            "INSERT INTO teams (id, name) SELECT coalesce(max(id), 0) + 1, $1 FROM teams WHERE true \
             ON CONFLICT (name) DO NOTHING RETURNING id",
        )
        .bind(storable_text(slug));
        let row: Option<(i64,)> = transaction.row(insert).await?;
        transaction.commit().await?;
        Ok(row.map(|(id,)| TeamId(id)))
    }

    /// Returns every team by its slug.
    pub async fn teams(&self) -> Result<Vec<TeamRecord>> {
        let query = statement("SELECT id, name FROM teams ORDER BY name, id");
        let rows: Vec<TeamRow> = self.database.rows(query).await?;
        Ok(rows.into_iter().map(TeamRecord::from).collect())
    }

    /// Returns the team of a slug.
    pub async fn team_of_slug(&self, slug: &str) -> Result<Option<TeamId>> {
        let query = statement("SELECT id FROM teams WHERE name = $1").bind(storable_text(slug));
        let row: Option<(i64,)> = self.database.row(query).await?;
        Ok(row.map(|(id,)| TeamId(id)))
    }
}
