//! The secret that requests to a channel are signed with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tallyhook_core::github::signature::Secrets;

/// The prefix of a secret in the form of Standard Webhooks, before its bytes in base64.
const STANDARD_PREFIX: &str = "whsec_";

/// The secret of a channel, for both forms of signatures.
#[derive(Clone)]
pub struct ChannelSecret {
    /// Its text as it is.
    text: Secrets,
    /// Its bytes for Standard Webhooks: those that `whsec_` announces, or else the text.
    bytes: Secrets,
}

impl ChannelSecret {
    /// Reads a secret; `None` if it is empty, or announces bytes and has none.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = match text.strip_prefix(STANDARD_PREFIX) {
            Some(encoded) => Secrets::of_bytes(&STANDARD.decode(encoded).ok()?)?,
            None => Secrets::single(text)?,
        };
        let text = Secrets::single(text)?;
        Some(Self { text, bytes })
    }

    /// Returns the `X-Hub-Signature-256` of a body, as GitHub signs.
    pub fn sign_as_github(&self, body: &str) -> String {
        self.text.sign(body.as_bytes()).to_header()
    }

    /// Returns the `webhook-signature` of a message: of its id, the time of this attempt in seconds
    /// since 1970, and its body.
    pub fn sign_as_standard(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signed = format!("{id}.{timestamp}.{body}");
        let signature = self.bytes.sign(signed.as_bytes());
        format!("v1,{}", STANDARD.encode(signature.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn published_vector_of_standard_webhooks_is_signed() {
        let secret = ChannelSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign_as_standard(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secret_without_the_prefix_is_its_own_bytes() {
        let secret = ChannelSecret::parse("It's a Secret to Everybody").unwrap();
        assert_eq!(
            secret.sign_as_github("Hello, World!"),
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
        let encoded = STANDARD.encode("It's a Secret to Everybody");
        let announced = ChannelSecret::parse(&format!("whsec_{encoded}")).unwrap();
        assert_eq!(
            secret.sign_as_standard("a", 1, "b"),
            announced.sign_as_standard("a", 1, "b")
        );
        assert!(ChannelSecret::parse("").is_none());
        assert!(ChannelSecret::parse("whsec_not base64").is_none());
        assert!(ChannelSecret::parse("whsec_").is_none());
    }
}
