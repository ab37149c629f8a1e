//! Responses by `ETag`: a 304 costs nothing of the hour's allowance.

use std::collections::VecDeque;

/// The largest response that is kept.
const MAX_RESPONSE: usize = 1024 * 1024;
/// The usual limit of all responses together.
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// The most recent responses with their `ETag`s.
#[derive(Debug)]
pub(crate) struct EtagCache {
    /// The oldest first.
    responses: VecDeque<CachedResponse>,
    bytes: usize,
    /// The limit of all responses together.
    max_bytes: usize,
}

impl Default for EtagCache {
    fn default() -> Self {
        Self::of_bytes(MAX_TOTAL)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CachedResponse {
    pub(crate) url: String,
    pub(crate) etag: String,
    /// The generation of the token that it was received with: an `ETag` is valid for one token.
    pub(crate) generation: u64,
    pub(crate) body: Vec<u8>,
    /// Further pages follow it.
    pub(crate) has_more: bool,
}

impl CachedResponse {
    fn bytes(&self) -> usize {
        self.url.len() + self.etag.len() + self.body.len()
    }
}

impl EtagCache {
    pub(crate) const fn of_bytes(max_bytes: usize) -> Self {
        Self {
            responses: VecDeque::new(),
            bytes: 0,
            max_bytes,
        }
    }

    pub(crate) fn get(&self, url: &str) -> Option<CachedResponse> {
        self.responses
            .iter()
            .find(|response| response.url == url)
            .cloned()
    }

    pub(crate) fn put(&mut self, response: CachedResponse) {
        if let Some(index) = self
            .responses
            .iter()
            .position(|known| known.url == response.url)
        {
            self.remove(index);
        }
        if response.bytes() > MAX_RESPONSE.min(self.max_bytes) {
            return;
        }
        self.bytes += response.bytes();
        self.responses.push_back(response);
        while self.bytes > self.max_bytes {
            self.remove(0);
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some(removed) = self.responses.remove(index) {
            self.bytes -= removed.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(url: &str, bytes: usize) -> CachedResponse {
        CachedResponse {
            url: url.to_owned(),
            etag: "e".to_owned(),
            generation: 0,
            body: vec![0; bytes],
            has_more: false,
        }
    }

    #[test]
    fn cache_keeps_the_latest_responses_within_its_limits() {
        let mut cache = EtagCache::default();
        for number in 0..40 {
            cache.put(response(&number.to_string(), MAX_RESPONSE / 2));
        }
        assert!(cache.bytes <= MAX_TOTAL && cache.get("0").is_none() && cache.get("39").is_some());
        cache.put(response("39", MAX_RESPONSE + 1));
        assert_eq!(
            cache.get("39"),
            None,
            "a response that is too large is not kept, and the one it replaces is outdated"
        );
        cache.put(response("38", 1));
        assert_eq!(cache.get("38"), Some(response("38", 1)));
        assert_eq!(
            cache.bytes,
            cache
                .responses
                .iter()
                .map(CachedResponse::bytes)
                .sum::<usize>()
        );
    }
}
