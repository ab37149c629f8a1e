//! Secrets that are stored: sealed by keys that are not in the database.
//!
//! [`KeyRing`] seals and opens, with AES-256 in GCM; [`KeySource`] has the keys of the settings or
//! of the file beside the database; [`Vault`] is the one way in which tokens enter the store and
//! leave it. A missing key locks only what it sealed: putting it back unlocks that.

mod credentials;
mod flows;
mod key_file;
mod key_ring;
mod key_source;
mod place;
mod refresh;
mod revocations;
mod rotation;
mod secret_bytes;
mod vault;

pub use self::credentials::{ConnectionEnd, CredentialDraft, OpenedTokens, TokenDraft};
pub use self::flows::{AppSecrets, FlowDraft, ReturnedFlow};
pub use self::key_file::{KEY_FILE, add_key, remove_key};
pub use self::key_ring::{InvalidKeys, KeyId, KeyRing, UnopenedValue, new_key};
pub use self::key_source::KeySource;
pub use self::place::SealedPlace;
pub use self::refresh::{RefreshAnswer, RefreshFailure};
pub use self::revocations::OpenedRevocation;
pub use self::rotation::{ForgottenKey, KeyStatus, RotationCounts, SecretsStatus};
pub use self::secret_bytes::SecretBytes;
pub use self::vault::{SecretError, Vault};
