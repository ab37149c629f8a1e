//! Bodies as they are stored: compressed.

use std::io::{self, Read};

/// A delivery's JSON, compressed by zstd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBody {
    pub(super) compressed: Vec<u8>,
    pub(super) bytes: u64,
}

impl StoredBody {
    /// Level 1 is nearly as small as the default for JSON of this kind and three times as fast.
    const LEVEL: i32 = 1;

    /// Compresses `body`.
    ///
    /// # Errors
    /// Only if zstd runs out of memory.
    pub fn compress(body: &[u8]) -> io::Result<Self> {
        Ok(Self { compressed: zstd::bulk::compress(body, Self::LEVEL)?, bytes: body.len() as u64 })
    }

    /// The body again.
    ///
    /// # Errors
    /// If what is stored is damaged: not zstd, or not as long as it was.
    pub fn decompress(&self) -> io::Result<Vec<u8>> {
        let expected = usize::try_from(self.bytes).map_err(io::Error::other)?;
        let mut body = Vec::with_capacity(expected);
        // One byte more than expected is asked for, so that a body that grew is seen and not cut.
        zstd::stream::read::Decoder::new(self.compressed.as_slice())?.take(self.bytes + 1).read_to_end(&mut body)?;
        if body.len() == expected { Ok(body) } else { Err(io::Error::other("the stored body has another length")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_and_a_damaged_one_is_an_error() {
        let body = br#"{"action":"opened"}"#.repeat(100);
        let stored = StoredBody::compress(&body).unwrap();
        assert!(stored.compressed.len() < body.len() / 4);
        assert_eq!(stored.decompress().unwrap(), body);
        for damaged in [
            StoredBody { bytes: 5, ..stored.clone() },
            StoredBody { bytes: 9999, ..stored.clone() },
            StoredBody { compressed: b"{}".to_vec(), bytes: 2 },
        ] {
            assert!(damaged.decompress().is_err());
        }
    }
}
