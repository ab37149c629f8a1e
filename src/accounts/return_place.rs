//! The place of this server that a browser goes to after its way to GitHub.

use tallyhook_store::TokenHash;

/// The place to go to after signing in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReturnPlace {
    /// The path of a page of this server, with its query.
    Page(String),
    /// An invitation, by the digest of its secret, which is to be used up.
    Invitation(TokenHash),
}

/// The beginning of the text of an invitation. No path begins so.
const INVITATION: &str = "invitation:";

impl ReturnPlace {
    /// Returns the text that is stored. It has no secret in it.
    pub(super) fn stored(&self) -> String {
        match self {
            Self::Page(path) => path.clone(),
            Self::Invitation(hash) => format!("{INVITATION}{}", hex::encode(hash)),
        }
    }

    /// Returns the place of a stored text.
    pub(super) fn parse(stored: Option<String>) -> Self {
        let stored = stored.unwrap_or_else(|| "/".to_owned());
        let hash = stored.strip_prefix(INVITATION).and_then(|hash| {
            let hash = hex::decode(hash).ok()?;
            TokenHash::try_from(hash.as_slice()).ok()
        });
        match hash {
            Some(hash) => Self::Invitation(hash),
            None => Self::Page(stored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_the_same_after_it_was_stored() {
        let invitation = ReturnPlace::Invitation([7; 32]);
        let page = ReturnPlace::Page("/prs?state=open".to_owned());
        for place in [invitation, page] {
            assert_eq!(ReturnPlace::parse(Some(place.stored())), place);
        }
        assert_eq!(ReturnPlace::parse(None), ReturnPlace::Page("/".to_owned()));
    }
}
