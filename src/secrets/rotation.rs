//! Keys in use: counted, replaced and forgotten.

use std::collections::BTreeMap;

use tallyhook_store::{Moment, SealedValue};

use super::key_file::remove_key;
use super::key_ring::KeyId;
use super::place::SealedPlace;
use super::vault::{SecretError, Vault};

/// The rows of one transaction.
const PORTION: u32 = 100;

/// A key that is configured or has sealed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    pub id: KeyId,
    pub is_configured: bool,
    /// It seals what is stored from now on.
    pub seals: bool,
    /// The rows that it sealed, by table.
    pub tables: BTreeMap<String, u64>,
}

impl KeyStatus {
    pub fn rows(&self) -> u64 {
        self.tables.values().sum()
    }
}

/// The keys, those that are configured first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsStatus {
    pub keys: Vec<KeyStatus>,
}

impl SecretsStatus {
    /// Returns the keys that have sealed something and are not configured.
    pub fn missing(&self) -> impl Iterator<Item = &KeyStatus> {
        self.keys.iter().filter(|key| !key.is_configured)
    }
}

/// The values that a rotation looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RotationCounts {
    /// They are sealed by the first key now.
    pub sealed: u64,
    /// They were written by another process since they were read.
    pub changed: u64,
    /// Their key is not configured.
    pub locked: u64,
    /// They do not open in their place.
    pub damaged: u64,
}

/// The end of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgottenKey {
    /// It is the one that seals.
    Seals,
    /// So many rows are sealed by it, and it is configured: they can be sealed again.
    InUse(u64),
    /// So many rows are sealed by it, and it is not configured.
    Lost(u64),
    /// So many rows were destroyed with it.
    Destroyed(u64),
    /// It is no longer in the file.
    Removed,
    /// Nothing is sealed by it, and it is in the settings.
    InSettings,
    /// Nothing is sealed by it, and it is not configured.
    Unknown,
}

impl Vault {
    /// Returns the keys with the rows that each has sealed.
    ///
    /// # Errors
    /// [`SecretError::Store`] or [`SecretError::Keys`].
    pub async fn status(&self) -> Result<SecretsStatus, SecretError> {
        let keys = self.keys()?;
        let mut counts = self.store().sealed_counts().await?;
        let mut status = SecretsStatus::default();
        for (place, id) in keys.iter().flat_map(|keys| keys.ids()).enumerate() {
            status.keys.push(KeyStatus {
                id,
                is_configured: true,
                seals: place == 0,
                tables: counts.remove(&id.0).unwrap_or_default(),
            });
        }
        status
            .keys
            .extend(counts.into_iter().map(|(id, tables)| KeyStatus {
                id: KeyId(id),
                is_configured: false,
                seals: false,
                tables,
            }));
        Ok(status)
    }

    /// Seals again by the first key what others have sealed, beside processes that write. It can be
    /// interrupted at any time and begun again.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn rotate(&self) -> Result<RotationCounts, SecretError> {
        let keys = self.keys_to_seal()?;
        let first = keys.sealing().0;
        let mut counts = RotationCounts::default();
        let mut last: Option<SealedValue> = None;
        loop {
            let values = self
                .store()
                .sealed_by_others(&first, last.as_ref(), PORTION)
                .await?;
            let Some(next) = values.last().cloned() else {
                return Ok(counts);
            };
            last = Some(next);
            let mut replacements = Vec::new();
            for value in values {
                let place = place(&value, self.host());
                match self.open(&place, &value.sealed) {
                    Ok(secret) => {
                        let sealed = keys.seal(&place, secret.expose())?;
                        replacements.push((value, sealed));
                    }
                    Err(SecretError::Locked(_)) => counts.locked += 1,
                    Err(SecretError::Damaged) => counts.damaged += 1,
                    Err(error) => return Err(error),
                }
            }
            let sealed = self.store().reseal(&replacements).await?;
            counts.sealed += sealed;
            counts.changed += replacements.len() as u64 - sealed;
            tallyhook_core::crash_point::reached("secrets.resealed");
        }
    }

    /// Forgets a key that nothing is sealed by; with `destroy` also one that is lost, together with
    /// what it sealed.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn forget(
        &self,
        id: KeyId,
        destroy: bool,
        now: Moment,
    ) -> Result<ForgottenKey, SecretError> {
        let status = self.status().await?;
        let Some(key) = status.keys.iter().find(|key| key.id == id) else {
            return Ok(ForgottenKey::Unknown);
        };
        match (key.rows(), key.is_configured) {
            (_, true) if key.seals => Ok(ForgottenKey::Seals),
            (0, _) => match self.source().path() {
                Some(path) => match remove_key(path, id).map_err(SecretError::Keys)? {
                    true => Ok(ForgottenKey::Removed),
                    false => Ok(ForgottenKey::Unknown),
                },
                None => Ok(ForgottenKey::InSettings),
            },
            (rows, true) => Ok(ForgottenKey::InUse(rows)),
            (rows, false) if !destroy => Ok(ForgottenKey::Lost(rows)),
            (_, false) => {
                let destroyed = self.store().destroy_sealed(&id.0, now).await?;
                Ok(ForgottenKey::Destroyed(destroyed))
            }
        }
    }
}

fn place<'a>(value: &'a SealedValue, host: &'a str) -> SealedPlace<'a> {
    SealedPlace {
        table: &value.table,
        column: &value.column,
        row: &value.row,
        owner_kind: &value.owner_kind,
        owner: &value.owner,
        kind: &value.kind,
        host,
    }
}
