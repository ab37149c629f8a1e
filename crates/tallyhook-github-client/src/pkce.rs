//! The secrets of one run through the web flow: the state, which binds the answer to the browser,
//! and the verifier, which binds the code to this program (PKCE).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tallyhook_core::secret::Secret;
use zeroize::Zeroizing;

/// The random bytes of a state or a verifier.
const RANDOM_BYTES: usize = 32;
/// The lengths of a verifier by RFC 7636.
const VERIFIER_LENGTHS: std::ops::RangeInclusive<usize> = 43..=128;

/// The proof that the program that exchanges a code is the one that asked for it.
pub struct PkceVerifier(Secret);

impl PkceVerifier {
    /// Returns a verifier of 256 random bits.
    pub fn random() -> Self {
        Self(random_secret())
    }

    /// Returns a verifier that was stored; `None` if the text is none.
    pub fn parse(secret: Secret) -> Option<Self> {
        let text = secret.expose();
        let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        (VERIFIER_LENGTHS.contains(&text.len()) && text.bytes().all(is_unreserved))
            .then_some(Self(secret))
    }

    /// Returns the text to store until the code arrives.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Returns the challenge of the method S256.
    pub(crate) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.expose()))
    }
}

/// Returns 256 random bits as 43 characters that need no escape in an address.
pub fn random_secret() -> Secret {
    let bytes = Zeroizing::new(rand::random::<[u8; RANDOM_BYTES]>());
    Secret::new(URL_SAFE_NO_PAD.encode(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_that_of_the_standard() {
        // Appendix B of RFC 7636.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
        assert_eq!(
            PkceVerifier::parse(verifier).unwrap().challenge(),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn random_secrets_differ_and_are_verifiers() {
        let (one, two) = (random_secret(), random_secret());
        assert!(one.expose().len() == 43 && one.expose() != two.expose());
        assert!(PkceVerifier::parse(one).is_some());
        for wrong in ["short", &"a".repeat(129), &"a b".repeat(20)] {
            assert!(PkceVerifier::parse(Secret::new(wrong.to_owned())).is_none());
        }
    }
}
