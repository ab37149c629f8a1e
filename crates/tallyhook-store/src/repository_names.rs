//! Repositories by name. A repository keeps its id through renames, and its former names go on
//! meaning it until another repository takes them.

use std::collections::BTreeMap;

use sqlx::FromRow;
use sqlx::types::Json;
use tallyhook_core::event::is_repository_name;
use tallyhook_core::github::types::RepoId;

use crate::database::{Database, StatementBuilder, statement};
use crate::pull_requests::push_name;
use crate::team_store::TeamScope;
use crate::{Result, Store, TeamStore};

#[derive(FromRow)]
pub(crate) struct RepositoryNamesRow {
    name: String,
    former_names: Json<BTreeMap<String, i64>>,
}

impl RepositoryNamesRow {
    pub(crate) const QUERY: &'static str =
        "SELECT name, former_names FROM repositories WHERE id = $1";

    /// Returns the present name, then the former ones in lower case.
    pub(crate) fn names(self) -> impl Iterator<Item = String> {
        let present = self.name.to_ascii_lowercase();
        let former = self.former_names.0.into_keys();
        std::iter::once(self.name).chain(former.filter(move |name| *name != present))
    }
}

impl TeamStore {
    /// Looks up a repository of the team, as [`Store::repository_id`].
    pub async fn repository_id(&self, name: &str) -> Result<Option<RepoId>> {
        repository_id(&self.database, self.plain_scope(), name).await
    }
}

/// Looks up a repository of a scope by its present name, else by a former one.
async fn repository_id(
    database: &Database,
    scope: TeamScope,
    name: &str,
) -> Result<Option<RepoId>> {
    let mut present = StatementBuilder::new("SELECT id FROM repositories WHERE true");
    match database {
        Database::Sqlite(_) => {
            present
                .push(" AND name = ")
                .push_bind(name)
                .push(" COLLATE NOCASE");
        }
        Database::Postgres(_) => push_name(&mut present, "name", name, 200),
    }
    scope.push_each(&mut present, "repositories.id");
    present.push(" ORDER BY access = 'deleted', seen_at DESC, id DESC LIMIT 1");
    let row: Option<(i64,)> = database.row(present.build()).await?;
    if row.is_some() || !is_repository_name(name) {
        return Ok(row.map(|(id,)| RepoId(id)));
    }
    let (entries, date) = match database {
        Database::Sqlite(_) => ("json_each(former_names)", "value"),
        Database::Postgres(_) => ("jsonb_each_text(former_names)", "value::bigint"),
    };
    let mut former = StatementBuilder::new(format!(
        "SELECT repositories.id FROM repositories, {entries} AS former \
         WHERE former_names <> '{{}}' AND former.key = "
    ));
    former.push_bind(name.to_ascii_lowercase());
    scope.push_each(&mut former, "repositories.id");
    former.push(&format!(
        " ORDER BY former.{date} DESC, repositories.id DESC LIMIT 1"
    ));
    let row: Option<(i64,)> = database.row(former.build()).await?;
    Ok(row.map(|(id,)| RepoId(id)))
}

impl Store {
    /// Looks up a repository by its name, else by a former name. Where an old one of that name was
    /// deleted, the one seen last is it; of a former name, the one that was last seen under it.
    pub async fn repository_id(&self, name: &str) -> Result<Option<RepoId>> {
        let scope = TeamScope::everything(self.database.is_sqlite());
        repository_id(&self.database, scope, name).await
    }

    /// Returns whether any repository has a name that begins with `owner`, which ends in a slash.
    pub async fn has_repository_of(&self, owner: &str) -> Result<bool> {
        let query =
            statement("SELECT id FROM repositories WHERE lower(substr(name, 1, $1)) = $2 LIMIT 1");
        let length = i64::try_from(owner.chars().count()).unwrap_or(i64::MAX);
        let query = query.bind(length).bind(owner.to_ascii_lowercase());
        Ok(self.database.row::<(i64,)>(query).await?.is_some())
    }

    /// Returns the names that mean a repository: its own, and its former ones that no other has
    /// taken.
    pub async fn repository_names(&self, repo: RepoId) -> Result<Vec<String>> {
        let query = statement(RepositoryNamesRow::QUERY).bind(repo.0);
        let row: Option<RepositoryNamesRow> = self.database.row(query).await?;
        let mut names = row.into_iter().flat_map(RepositoryNamesRow::names);
        let mut valid: Vec<_> = names.next().into_iter().collect();
        for name in names {
            if self.repository_id(&name).await? == Some(repo) {
                valid.push(name);
            }
        }
        Ok(valid)
    }
}
