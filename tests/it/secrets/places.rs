//! A sealed value opens in its own place only.

use tallyhook::secrets::{SecretError, Vault};
use tallyhook_store::Credential;
use testkit::database::Database;
use testkit::on_every_database;

use super::{draft, key, now, open, source, tokens, vault};

on_every_database! {
    value_copied_to_another_row_owner_column_kind_or_host_does_not_open,
}

/// Returns the credential of a row, and whether its access token opens.
async fn opens(vault: &Vault, id: &str) -> (Credential, bool) {
    let credential = vault.store().credential(id).await.unwrap().unwrap();
    let opened = match vault.open_credential(&credential) {
        Ok(opened) => opened.is_some(),
        Err(SecretError::Damaged) => false,
        Err(error) => panic!("{error}"),
    };
    (credential, opened)
}

async fn value_copied_to_another_row_owner_column_kind_or_host_does_not_open(database: Database) {
    let store = open(&database).await;
    let only = key();
    let vault = vault(&store, &[&only]);
    let mine = vault
        .save_credential(&draft(1, tokens("mine", 60)), now())
        .await
        .unwrap();
    let other = vault
        .save_credential(&draft(2, tokens("other", 60)), now())
        .await
        .unwrap();
    let third = vault
        .save_credential(&draft(3, tokens("third", 60)), now())
        .await
        .unwrap();
    for id in [&mine, &other, &third] {
        assert!(opens(&vault, id).await.1);
    }
    let elsewhere = Vault::new(store.clone(), source(&[&only]), "https://ghe.example.com");
    assert!(
        !opens(&elsewhere, &mine).await.1,
        "it opens for another host"
    );

    // Each change is made by a statement of SQL, as by a person with the database, and undone.
    let from_mine = format!("(SELECT access_token FROM github_credentials WHERE id = '{mine}')");
    let set = |assignment: &str, id: &str| {
        format!("UPDATE github_credentials SET {assignment} WHERE id = '{id}'")
    };
    let changes = [
        (
            "row",
            set(&format!("access_token = {from_mine}"), &other),
            other.as_str(),
        ),
        (
            "column",
            set("access_token = refresh_token", &third),
            third.as_str(),
        ),
        ("owner", set("owner_id = 8", &mine), mine.as_str()),
        (
            "owner's kind",
            set("owner_kind = 'team'", &mine),
            mine.as_str(),
        ),
        ("kind", set("kind = 'oauth'", &mine), mine.as_str()),
    ];
    for (what, change, id) in changes {
        database.execute(&change).await;
        let (_, opened) = opens(&vault, id).await;
        assert!(!opened, "it opens with another {what}");
        let undo = "owner_id = 7, owner_kind = 'user', kind = 'app_user'";
        database.execute(&set(undo, id)).await;
    }
    store.close().await;
}
