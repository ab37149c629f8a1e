//! The one way in which secrets enter the store and leave it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tallyhook_store::{Store, StoreError};

use super::key_ring::{KeyId, KeyRing, UnopenedValue};
use super::key_source::KeySource;
use super::place::SealedPlace;
use super::secret_bytes::SecretBytes;

/// The reason why a secret can be neither stored nor used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no key to seal with.
    #[error(
        "there is no key to seal secrets with: set TALLYHOOK_ENCRYPTION_KEYS (or \
         TALLYHOOK_ENCRYPTION_KEYS_FILE) to a key of `openssl rand -base64 32`, keep a copy of it \
         apart from the backups of the database, and restart every process"
    )]
    KeyMissing,
    /// The key that sealed it is not among the configured ones.
    #[error(
        "the key {0} that sealed it is not configured: put it back into TALLYHOOK_ENCRYPTION_KEYS \
         or the file tallyhook-keys (`tallyhook secrets status` lists what it sealed)"
    )]
    Locked(KeyId),
    /// The sealed value was changed, or moved from another row.
    #[error("what is stored of it was changed, or is of another row: connect again")]
    Damaged,
    /// The keys cannot be read or made.
    #[error("{0:#}")]
    Keys(anyhow::Error),
    #[error("the cryptography library failed")]
    Cryptography,
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl From<aws_lc_rs::error::Unspecified> for SecretError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Cryptography
    }
}

/// Turns, one for each credential that is being refreshed in this process.
pub(super) type RefreshTurns = Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>;

/// The store of secrets of one process. Cheap to clone.
#[derive(Clone)]
pub struct Vault(Arc<VaultParts>);

struct VaultParts {
    store: Store,
    source: RwLock<KeySource>,
    /// The GitHub that every secret is for.
    host: String,
    turns: RefreshTurns,
}

impl Vault {
    /// Returns the vault of a store, for the secrets of one GitHub.
    pub fn new(store: Store, source: KeySource, host: impl Into<String>) -> Self {
        Self(Arc::new(VaultParts {
            store,
            source: RwLock::new(source),
            host: host.into(),
            turns: Mutex::default(),
        }))
    }

    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns the GitHub that every secret is for.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Replaces the keys by those of new settings.
    pub fn replace_source(&self, source: KeySource) {
        *self.0.source.write() = source;
    }

    pub fn source(&self) -> KeySource {
        self.0.source.read().clone()
    }

    pub(super) fn turns(&self) -> &RefreshTurns {
        &self.0.turns
    }

    /// Returns the keys; `None` if there are none yet.
    ///
    /// # Errors
    /// [`SecretError::Keys`].
    pub fn keys(&self) -> Result<Option<Arc<KeyRing>>, SecretError> {
        self.source().keys().map_err(SecretError::Keys)
    }

    /// Returns the keys to seal with, which are made if they may be.
    ///
    /// # Errors
    /// [`SecretError::KeyMissing`] or [`SecretError::Keys`].
    pub fn keys_to_seal(&self) -> Result<Arc<KeyRing>, SecretError> {
        let keys = self.source().keys_to_seal().map_err(SecretError::Keys)?;
        keys.ok_or(SecretError::KeyMissing)
    }

    pub(super) fn seal(
        &self,
        place: &SealedPlace<'_>,
        secret: &SecretBytes,
    ) -> Result<Vec<u8>, SecretError> {
        Ok(self.keys_to_seal()?.seal(place, secret.expose())?)
    }

    pub(super) fn open(
        &self,
        place: &SealedPlace<'_>,
        value: &[u8],
    ) -> Result<SecretBytes, SecretError> {
        let missing = || match super::key_ring::key_of(value) {
            Some(id) => SecretError::Locked(id),
            None => SecretError::Damaged,
        };
        let keys = self.keys()?.ok_or_else(missing)?;
        keys.open(place, value).map_err(|unopened| match unopened {
            UnopenedValue::KeyMissing(id) => SecretError::Locked(id),
            UnopenedValue::Refused => SecretError::Damaged,
        })
    }
}
