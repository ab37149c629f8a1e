//! Bodies as they are stored: compressed.

use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

thread_local! {
    // Made once per thread: making one takes longer than compressing a usual body with it.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A delivery's JSON, compressed by zstd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBody {
    pub(crate) compressed: Vec<u8>,
    pub(crate) bytes: u64,
}

impl StoredBody {
    /// Level 1 is nearly as small as the default for JSON of this kind and three times as fast.
    const LEVEL: i32 = 1;

    /// Compresses `body`.
    ///
    /// # Errors
    /// Only if zstd runs out of memory.
    pub fn compress(body: &[u8]) -> io::Result<Self> {
        let mut compressed = with(
            &COMPRESSOR,
            || Compressor::new(Self::LEVEL),
            |compressor| compressor.compress(body),
        )?;
        // Room was made for a body that does not get smaller, and many wait for a commit together.
        compressed.shrink_to_fit();
        Ok(Self {
            compressed,
            bytes: body.len() as u64,
        })
    }

    /// Returns the size of the compressed body.
    pub fn stored_bytes(&self) -> usize {
        self.compressed.len()
    }

    /// Decompresses the body.
    ///
    /// # Errors
    /// If what is stored is damaged: not zstd, or not as long as it was.
    pub fn decompress(&self) -> io::Result<Vec<u8>> {
        let expected = usize::try_from(self.bytes).map_err(io::Error::other)?;
        // A body that grew does not fit and is an error too.
        let body = with(&DECOMPRESSOR, Decompressor::new, |decompressor| {
            decompressor.decompress(&self.compressed, expected)
        })?;
        if body.len() == expected {
            Ok(body)
        } else {
            Err(io::Error::other("the stored body has another length"))
        }
    }
}

/// Uses this thread's context, which is made at the first use.
fn with<C, T>(
    context: &'static std::thread::LocalKey<RefCell<Option<C>>>,
    make: impl FnOnce() -> io::Result<C>,
    work: impl FnOnce(&mut C) -> io::Result<T>,
) -> io::Result<T> {
    context.with_borrow_mut(|context| {
        let mut ready = match context.take() {
            Some(ready) => ready,
            None => make()?,
        };
        let worked = work(&mut ready);
        *context = Some(ready);
        worked
    })
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
            StoredBody {
                bytes: 5,
                ..stored.clone()
            },
            StoredBody {
                bytes: 9999,
                ..stored.clone()
            },
            StoredBody {
                compressed: b"{}".to_vec(),
                bytes: 2,
            },
        ] {
            assert!(damaged.decompress().is_err());
        }
    }
}
