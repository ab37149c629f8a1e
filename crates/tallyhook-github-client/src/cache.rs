//! Answers that GitHub can say are still the same: a 304 costs nothing of the hour's allowance.

use std::collections::VecDeque;

/// Larger answers are asked for whole each time.
const LARGEST: usize = 1024 * 1024;
/// All of them together.
const ALL: usize = 16 * 1024 * 1024;

/// Answers with their `ETag`s, those that were got last.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// The oldest first.
    answers: VecDeque<Cached>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) url: String,
    pub(super) etag: String,
    /// The token that it was got with, on which the `ETag` depends.
    pub(super) grant: u64,
    pub(super) body: Vec<u8>,
    /// Whether further pages follow it.
    pub(super) more: bool,
}

impl Cached {
    fn bytes(&self) -> usize {
        self.url.len() + self.etag.len() + self.body.len()
    }
}

impl Cache {
    pub(super) fn get(&self, url: &str) -> Option<Cached> {
        self.answers
            .iter()
            .find(|answer| answer.url == url)
            .cloned()
    }

    pub(super) fn put(&mut self, answer: Cached) {
        if let Some(place) = self
            .answers
            .iter()
            .position(|known| known.url == answer.url)
        {
            self.remove(place);
        }
        if answer.bytes() > LARGEST {
            return;
        }
        self.bytes += answer.bytes();
        self.answers.push_back(answer);
        while self.bytes > ALL {
            self.remove(0);
        }
    }

    fn remove(&mut self, place: usize) {
        if let Some(removed) = self.answers.remove(place) {
            self.bytes -= removed.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(url: &str, bytes: usize) -> Cached {
        Cached {
            url: url.to_owned(),
            etag: "e".to_owned(),
            grant: 0,
            body: vec![0; bytes],
            more: false,
        }
    }

    #[test]
    fn it_holds_the_latest_answers_within_its_bounds() {
        let mut cache = Cache::default();
        for number in 0..40 {
            cache.put(answer(&number.to_string(), LARGEST / 2));
        }
        assert!(cache.bytes <= ALL && cache.get("0").is_none() && cache.get("39").is_some());
        cache.put(answer("39", LARGEST + 1));
        assert_eq!(
            cache.get("39"),
            None,
            "what is too large is not kept, and what it replaces is no more true"
        );
        cache.put(answer("38", 1));
        assert_eq!(cache.get("38"), Some(answer("38", 1)));
        assert_eq!(
            cache.bytes,
            cache.answers.iter().map(Cached::bytes).sum::<usize>()
        );
    }
}
