//! People by login. An account keeps its id when its login changes.

use std::collections::BTreeMap;

use tallyhook_core::github::types::{AccountId, Timestamp};

use crate::Result;
use crate::columns::{Seconds, storable_text};
use crate::database::{Database, Transaction, statement};

/// The number of rows of one statement.
const ROWS: usize = 64;

/// Returns the account that a login is of, and all logins that it was seen with; of two accounts
/// that had the login, the one that took it last. `None` for an unknown login.
pub(crate) async fn account_of(
    database: &Database,
    login: &str,
) -> Result<Option<(AccountId, Vec<String>)>> {
    let query = "SELECT account_id FROM account_logins WHERE login = $1 \
                 ORDER BY seen_at DESC, account_id DESC LIMIT 1";
    let query = statement(query).bind(storable_text(login).to_ascii_lowercase());
    let Some((id,)) = database.row::<(i64,)>(query).await? else {
        return Ok(None);
    };
    let query = statement("SELECT login FROM account_logins WHERE account_id = $1").bind(id);
    let logins = database.rows::<(String,)>(query).await?;
    let logins = logins.into_iter().map(|(login,)| login).collect();
    Ok(Some((AccountId(id), logins)))
}

/// Records logins with the time of their first sight. In their order, so that two transactions
/// cannot deadlock.
pub(crate) async fn write_logins(
    transaction: &mut Transaction<'_>,
    logins: &BTreeMap<(String, AccountId), Timestamp>,
) -> Result<()> {
    let logins: Vec<_> = logins.iter().collect();
    for portion in logins.chunks(ROWS) {
        let row = |row: usize| format!("(${}, ${}, ${})", 3 * row + 1, 3 * row + 2, 3 * row + 3);
        let insert = format!(
            "INSERT INTO account_logins AS known (login, account_id, seen_at) VALUES {} \
             ON CONFLICT (login, account_id) DO UPDATE SET seen_at = excluded.seen_at \
             WHERE excluded.seen_at < known.seen_at",
            (0..portion.len()).map(row).collect::<Vec<_>>().join(", ")
        );
        let mut query = statement(insert).persistent(portion.len() == 1);
        for ((login, account), at) in portion {
            query = query
                .bind(login.clone())
                .bind(account.0)
                .bind(Seconds(**at));
        }
        transaction.execute(query).await?;
    }
    Ok(())
}
