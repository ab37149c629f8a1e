//! The keys in force: the first seals, all of them open.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tallyhook_store::SealingKeyId;
use zeroize::Zeroizing;

use super::place::SealedPlace;
use super::secret_bytes::SecretBytes;

/// The bytes of a key.
const KEY_BYTES: usize = 32;
/// The first byte of a sealed value: the form of the others.
const FORM: u8 = 1;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// The text from which a key makes its own id.
const ID_LABEL: &[u8] = b"tallyhook/v1/key-id";

/// The name of a key, which reveals nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub SealingKeyId);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id)?;
        Ok(Self(id))
    }
}

/// Keys that cannot be used. The text names none of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    #[error("there is no key in it")]
    Empty,
    #[error("key {0} of the list is not 32 bytes in base64, as of `openssl rand -base64 32`")]
    NoKey(usize),
    #[error("key {0} of the list is there twice")]
    Repeated(usize),
    #[error("the cryptography library refuses key {0} of the list")]
    Refused(usize),
}

struct SealingKey {
    id: KeyId,
    cipher: RandomizedNonceKey,
}

/// Keys, of which the first seals. Without `Debug`, `Clone` and `Serialize`.
pub struct KeyRing {
    first: SealingKey,
    others: Vec<SealingKey>,
}

/// The reason why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnopenedValue {
    /// Its key is not among these.
    KeyMissing(KeyId),
    /// It is damaged, or was sealed for another place.
    Refused,
}

/// Makes a new key, in base64.
///
/// # Errors
/// If the system gives no random bytes.
pub fn new_key() -> Result<SecretBytes, aws_lc_rs::error::Unspecified> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    aws_lc_rs::rand::fill(&mut key[..])?;
    Ok(BASE64_STANDARD.encode(&key[..]).into())
}

impl KeyRing {
    /// Reads keys that are separated by white space.
    ///
    /// # Errors
    /// The first that cannot be used, by its place in the list.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let mut seen = BTreeSet::new();
        let mut keys = Vec::new();
        for (number, word) in (1..).zip(text.split_whitespace()) {
            let key = SealingKey::parse(number, word)?;
            if !seen.insert(key.id) {
                return Err(InvalidKeys::Repeated(number));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(InvalidKeys::Empty)?;
        Ok(Self {
            first,
            others: keys.collect(),
        })
    }

    /// Returns the id of the key that seals.
    pub fn sealing(&self) -> KeyId {
        self.first.id
    }

    /// Returns the ids of all keys, that of the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys().map(|key| key.id)
    }

    fn keys(&self) -> impl Iterator<Item = &SealingKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Seals a secret for its place: `0x01`, key id, nonce, ciphertext, tag.
    ///
    /// # Errors
    /// If the cryptography library fails.
    pub fn seal(
        &self,
        place: &SealedPlace<'_>,
        secret: &[u8],
    ) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let mut sealed = Vec::with_capacity(secret.len() + TAG_BYTES);
        sealed.extend_from_slice(secret);
        let data = Aad::from(place.associated_data());
        let nonce = self
            .first
            .cipher
            .seal_in_place_append_tag(data, &mut sealed)?;
        let mut value = vec![FORM];
        value.extend_from_slice(&self.first.id.0);
        value.extend_from_slice(nonce.as_ref());
        value.extend_from_slice(&sealed);
        Ok(value)
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// [`UnopenedValue`].
    pub fn open(
        &self,
        place: &SealedPlace<'_>,
        value: &[u8],
    ) -> Result<SecretBytes, UnopenedValue> {
        let id = key_of(value).ok_or(UnopenedValue::Refused)?;
        let mut keys = self.keys();
        let key = keys
            .find(|key| key.id == id)
            .ok_or(UnopenedValue::KeyMissing(id))?;
        let (nonce, sealed) = value[1 + ID_BYTES..]
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(UnopenedValue::Refused)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let data = Aad::from(place.associated_data());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let secret = key.cipher.open_in_place(nonce, data, &mut opened);
        let secret = secret.map_err(|_| UnopenedValue::Refused)?;
        Ok(SecretBytes::new(secret.to_vec()))
    }

    /// Reports whether all keys of these ids are among these.
    pub fn opens_all<'a>(&self, mut ids: impl Iterator<Item = &'a SealingKeyId>) -> bool {
        ids.all(|id| self.ids().any(|known| known.0 == *id))
    }

    /// Reports whether the key of a value is among these.
    pub fn has_key_of(&self, value: &[u8]) -> bool {
        key_of(value).is_some_and(|id| self.ids().any(|known| known == id))
    }
}

impl SealingKey {
    fn parse(number: usize, word: &str) -> Result<Self, InvalidKeys> {
        let bytes = BASE64_STANDARD.decode(word);
        let bytes = Zeroizing::new(bytes.map_err(|_| InvalidKeys::NoKey(number))?);
        if bytes.len() != KEY_BYTES {
            return Err(InvalidKeys::NoKey(number));
        }
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &bytes);
        let label = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), ID_LABEL);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&label.as_ref()[..ID_BYTES]);
        Ok(Self {
            id: KeyId(id),
            cipher: cipher.map_err(|_| InvalidKeys::Refused(number))?,
        })
    }
}

/// Returns the id of the key that sealed a value; `None` if it is no sealed value.
pub(super) fn key_of(value: &[u8]) -> Option<KeyId> {
    let (form, rest) = value.split_first()?;
    let id = rest.first_chunk::<ID_BYTES>()?;
    (*form == FORM).then_some(KeyId(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        BASE64_STANDARD.encode([byte; KEY_BYTES])
    }

    fn ring(keys: &[u8]) -> KeyRing {
        let keys: Vec<_> = keys.iter().map(|byte| key(*byte)).collect();
        KeyRing::parse(&keys.join("\n")).ok().unwrap()
    }

    const PLACE: SealedPlace<'static> = SealedPlace {
        table: "github_credentials",
        column: "access_token",
        row: "7",
        owner_kind: "user",
        owner: "1",
        kind: "pat",
        host: "api.github.com",
    };

    #[test]
    fn value_moved_to_another_place_does_not_open() {
        let keys = ring(&[1]);
        let sealed = keys.seal(&PLACE, b"carrot").unwrap();
        let opened = keys.open(&PLACE, &sealed).ok().unwrap();
        assert_eq!(opened.expose(), b"carrot");
        assert!(!sealed.windows(6).any(|part| part == b"carrot"));
        let moved = [
            SealedPlace {
                table: "revocations",
                ..PLACE
            },
            SealedPlace {
                column: "refresh_token",
                ..PLACE
            },
            SealedPlace { row: "8", ..PLACE },
            SealedPlace {
                owner_kind: "team",
                ..PLACE
            },
            SealedPlace {
                owner: "2",
                ..PLACE
            },
            SealedPlace {
                kind: "oauth",
                ..PLACE
            },
            SealedPlace {
                host: "ghe.example.com",
                ..PLACE
            },
            // The same letters, divided in another way.
            SealedPlace {
                row: "7user",
                owner_kind: "",
                ..PLACE
            },
        ];
        for place in moved {
            let opened = keys.open(&place, &sealed);
            assert_eq!(opened.err(), Some(UnopenedValue::Refused), "{place:?}");
        }
    }

    #[test]
    fn value_with_any_changed_byte_does_not_open() {
        let keys = ring(&[1, 2]);
        let sealed = keys.seal(&PLACE, b"carrot").unwrap();
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(keys.open(&PLACE, &changed).is_err(), "byte {place}");
            assert!(
                keys.open(&PLACE, &sealed[..place]).is_err(),
                "{place} bytes"
            );
        }
    }

    #[test]
    fn first_key_seals_and_every_key_opens() {
        let old = ring(&[1]).seal(&PLACE, b"carrot").unwrap();
        let keys = ring(&[2, 1]);
        assert!(keys.open(&PLACE, &old).is_ok());
        let new = keys.seal(&PLACE, b"carrot").unwrap();
        let missing = UnopenedValue::KeyMissing(keys.sealing());
        assert_eq!(ring(&[1]).open(&PLACE, &new).err(), Some(missing));
        assert!(ring(&[2]).open(&PLACE, &new).is_ok());
        // The same secret twice is two values.
        assert_ne!(keys.seal(&PLACE, b"carrot").unwrap(), new);
    }

    #[test]
    fn list_of_keys_is_refused_by_the_place_of_the_wrong_one() {
        let (one, two) = (key(1), key(2));
        for (text, expected) in [
            (" \n ".to_owned(), InvalidKeys::Empty),
            (format!("{one} carrot"), InvalidKeys::NoKey(2)),
            (BASE64_STANDARD.encode([1; 31]), InvalidKeys::NoKey(1)),
            (format!("{one}\n{two}\n{one}"), InvalidKeys::Repeated(3)),
        ] {
            let error = KeyRing::parse(&text).err().unwrap();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("carrot"));
        }
    }
}
