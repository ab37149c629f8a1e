//! Webhook signatures: HMAC-SHA256 over the raw body, as GitHub's `X-Hub-Signature-256` carries it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

type HmacSha256 = Hmac<Sha256>;

/// The tag of one `X-Hub-Signature-256` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Parses `sha256=` and 64 hexadecimal digits. Returns `None` for any other text, such as the
    /// SHA-1 form.
    pub fn parse(header: &str) -> Option<Self> {
        let digits = header.strip_prefix("sha256=")?;
        let mut tag = [0; 32];
        hex::decode_to_slice(digits, &mut tag).ok()?;
        Some(Self(tag))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the header's text.
    pub fn to_header(self) -> String {
        format!("sha256={}", hex::encode(self.0))
    }
}

/// The webhook secrets in force. During a rotation there are several, and each of them is valid.
#[derive(Clone)]
pub struct Secrets {
    keyed: Vec<HmacSha256>,
    shortest: usize,
    has_spaces: bool,
}

impl Secrets {
    /// Parses secrets, one a line, each without the white space around it; `None` if there is none,
    /// since an empty secret would admit any sender.
    pub fn parse(text: &str) -> Option<Self> {
        Self::new(&Self::split(text).collect::<Vec<_>>())
    }

    /// Returns the secrets of a text that has one a line.
    pub fn split(text: &str) -> impl Iterator<Item = &str> {
        text.lines().map(str::trim).filter(|line| !line.is_empty())
    }

    fn new(secrets: &[&str]) -> Option<Self> {
        let lengths = secrets.iter().map(|secret| secret.chars().count());
        let shortest = lengths.min().filter(|shortest| *shortest > 0)?;
        let keyed = secrets
            .iter()
            .map(|secret| HmacSha256::new_from_slice(secret.as_bytes()).ok());
        Some(Self {
            keyed: keyed.collect::<Option<_>>()?,
            shortest,
            has_spaces: secrets
                .iter()
                .any(|secret| secret.contains(char::is_whitespace)),
        })
    }

    /// Returns one secret of any bytes: GitHub's own test vector has spaces in it.
    pub fn single(secret: &str) -> Option<Self> {
        Self::new(&[secret])
    }

    /// Returns one secret of these bytes; `None` if there are none.
    pub fn of_bytes(secret: &[u8]) -> Option<Self> {
        let shortest = Some(secret.len()).filter(|bytes| *bytes > 0)?;
        Some(Self {
            keyed: vec![HmacSha256::new_from_slice(secret).ok()?],
            shortest,
            has_spaces: false,
        })
    }

    /// Returns whether any secret made `signature` over `body`.
    ///
    /// Tags are compared in constant time and every secret is tried, so that the time taken reveals
    /// nothing.
    pub fn verify(&self, body: &[u8], signature: &Signature) -> bool {
        self.keyed.iter().fold(false, |valid, keyed| {
            let mut mac = keyed.clone();
            mac.update(body);
            valid | mac.verify_slice(&signature.0).is_ok()
        })
    }

    /// Returns the length of the shortest secret in characters.
    pub fn shortest(&self) -> usize {
        self.shortest
    }

    /// Returns true if one of them has white space within.
    pub fn has_spaces(&self) -> bool {
        self.has_spaces
    }

    /// Returns the number of secrets.
    pub fn count(&self) -> usize {
        self.keyed.len()
    }

    /// Signs with the first secret.
    pub fn sign(&self, body: &[u8]) -> Signature {
        let mut mac = self.keyed[0].clone();
        mac.update(body);
        Signature(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = b"Hello, World!";
    const TAG: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn published() -> Secrets {
        Secrets::single("It's a Secret to Everybody").unwrap()
    }

    #[test]
    fn published_vector_of_github_verifies() {
        assert!(published().verify(BODY, &Signature::parse(TAG).unwrap()));
        assert_eq!(published().sign(BODY).to_header(), TAG);
    }

    #[test]
    fn every_secret_of_a_rotation_is_valid_and_no_other() {
        let rotation = Secrets::parse(" old\r\n\n new one ").unwrap();
        assert_eq!(
            (rotation.count(), rotation.shortest(), rotation.has_spaces()),
            (2, 3, true)
        );
        for secret in ["old", "new one"] {
            assert!(rotation.verify(BODY, &Secrets::parse(secret).unwrap().sign(BODY)));
        }
        for secret in ["older", "new", "one"] {
            assert!(!rotation.verify(BODY, &Secrets::parse(secret).unwrap().sign(BODY)));
        }
        assert!(Secrets::parse(" \n").is_none());
        assert!(Secrets::single("").is_none());
    }

    #[test]
    fn only_sha256_and_64_digits_count() {
        for header in [
            "",
            "sha256=",
            "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6",
            &TAG[7..],
            &TAG[..70],
            &format!("{TAG}0"),
            &format!("{TAG} "),
            &format!(" {TAG}"),
            &TAG.replace("sha256", "SHA256"),
            &TAG.replace('7', "g"),
        ] {
            assert!(Signature::parse(header).is_none(), "{header:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// One hundred thousand mutations of header or body: none is accepted.
        #[test]
        fn no_mutation_is_accepted(at in 0_usize..96, with in 1_u8.., how in 0_u8..4) {
            let (mut header, mut body) = (TAG.as_bytes().to_vec(), BODY.to_vec());
            let target = if how == 0 { &mut body } else { &mut header };
            let place = at % target.len();
            match how {
                0 | 1 => target[place] ^= with,
                2 => target.insert(place, with),
                _ => { target.remove(place); }
            }
            let header = String::from_utf8_lossy(&header).into_owned();
            // Hexadecimal digits mean the same in both cases, so a change of case alone is no
            // mutation.
            prop_assume!(!(body == BODY && header.eq_ignore_ascii_case(TAG) && header.starts_with("sha256=")));
            let accepted = Signature::parse(&header).is_some_and(|tag| published().verify(&body, &tag));
            prop_assert!(!accepted, "{header:?} {body:?}");
        }
    }
}
