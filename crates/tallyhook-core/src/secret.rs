//! Texts that grant access.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A token, key or other text that grants access. Nothing prints or copies it, and its memory is
/// overwritten when it is dropped.
///
/// It has neither `Debug` nor `Display` nor `Serialize` nor `Clone`, so that the compiler finds a
/// struct that would print or copy it. What several places need is shared as a [`SharedSecret`].
pub struct Secret(Zeroizing<String>);

/// A secret that several places hold.
pub type SharedSecret = Arc<Secret>;

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the text itself, for the one place that sends, seals or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the last four characters, by which a person recognizes a long token; `None` of a
    /// text so short that they would give it away.
    pub fn last_four(&self) -> Option<&str> {
        const SHORTEST: usize = 20;
        let text = self.expose();
        let is_long = text.is_ascii() && text.len() >= SHORTEST;
        is_long.then(|| &text[text.len() - 4..])
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};

    use serde::Serialize;

    use super::*;

    /// Compiles only while `Secret` lacks the trait: with it, the item would be ambiguous.
    macro_rules! assert_lacks {
        ($lacking:path) => {{
            struct Ambiguous;
            trait Item<A> {
                fn item() {}
            }
            impl<T: ?Sized> Item<()> for T {}
            impl<T: ?Sized + $lacking> Item<Ambiguous> for T {}
            <Secret as Item<_>>::item();
        }};
    }

    #[test]
    fn secret_is_neither_printed_nor_copied() {
        assert_lacks!(Debug);
        assert_lacks!(Display);
        assert_lacks!(Serialize);
        assert_lacks!(Clone);
        let secret: Secret = serde_json::from_str(r#""ghu_1""#).unwrap();
        assert_eq!(secret.expose(), "ghu_1");
    }

    #[test]
    fn last_characters_are_those_of_long_secrets_only() {
        let last = |text: &str| Secret::new(text.to_owned()).last_four().map(str::to_owned);
        assert_eq!(last("ghp_0123456789abcdefWXYZ").as_deref(), Some("WXYZ"));
        assert_eq!(last("ghp_0123456789abcde"), None);
        assert_eq!(last("é0123456789abcdefghij"), None);
    }
}
