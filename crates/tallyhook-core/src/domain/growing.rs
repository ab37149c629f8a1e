//! The two maps of a pull request that grow with its history, and the part of them that is recent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::join::Join;

/// A map whose values are joined, for facts that grow with a pull request's history.
///
/// Most entries of a long one are in segments, which are stored once. The others are recent: they
/// are stored with the pull request by each write, so that a write costs no more for a long history
/// than for a short one. Which entries are recent says nothing about the facts, and is no part of
/// equality.
#[derive(Clone, Debug)]
pub struct GrowingMap<K, V> {
    entries: BTreeMap<K, V>,
    recent: BTreeSet<K>,
    /// False if the stored segments have an entry that this map has not.
    extends_segments: bool,
}

impl<K, V> Default for GrowingMap<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            recent: BTreeSet::new(),
            extends_segments: false,
        }
    }
}

impl<K: Ord + Clone, V: Join> GrowingMap<K, V> {
    /// Returns a map of the entries that the segments of a stored pull request have.
    pub fn of_segments(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut map = Self {
            extends_segments: true,
            ..Self::default()
        };
        for (key, value) in entries {
            join_entry(&mut map.entries, key, value);
        }
        map
    }

    /// Joins an entry with the known one. Returns whether that changed it.
    pub fn join(&mut self, key: K, value: V) -> bool {
        let changed = join_entry(&mut self.entries, key.clone(), value);
        if changed {
            self.recent.insert(key);
        }
        changed
    }

    /// Keeps the entries for which `keeps` holds.
    pub fn retain(&mut self, mut keeps: impl FnMut(&K) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|key, _| keeps(key));
        if self.entries.len() < before {
            self.leave_segments();
        }
    }

    /// Returns the entries that no segment has, by key.
    pub fn recent(&self) -> impl Iterator<Item = (&K, &V)> {
        self.recent
            .iter()
            .filter_map(|key| self.entries.get_key_value(key))
    }

    pub fn recent_len(&self) -> usize {
        self.recent.len()
    }

    /// Returns whether the stored segments are of use: each of their entries is one of this map.
    pub const fn extends_segments(&self) -> bool {
        self.extends_segments
    }

    /// Makes all entries recent, since the stored segments are of no use any more.
    pub(super) fn leave_segments(&mut self) {
        self.recent = self.entries.keys().cloned().collect();
        self.extends_segments = false;
    }

    /// Notes that the map was stored, with its recent entries as a segment or not.
    pub(super) fn stored(&mut self, as_segment: bool) {
        self.extends_segments = true;
        if as_segment {
            self.recent.clear();
        }
    }
}

fn join_entry<K: Ord, V: Join>(entries: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    match entries.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            true
        }
        Entry::Occupied(mut entry) => entry.get_mut().join(value),
    }
}

impl<K: Ord + Clone, V: Join> Extend<(K, V)> for GrowingMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.join(key, value);
        }
    }
}

impl<K, V> Deref for GrowingMap<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for GrowingMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<K: Eq, V: Eq> Eq for GrowingMap<K, V> {}
