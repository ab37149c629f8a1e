//! Leaks between teams, which tests of isolation plant to show that they would find them. Without the
//! feature `planted-leaks`, which no build but theirs has, there is none.

#[cfg(feature = "planted-leaks")]
use std::sync::atomic::{AtomicU8, Ordering};

/// A statement that forgets the team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedLeak {
    /// The people and teams that are waited for.
    WaitingParties = 1,
    /// The list of backfills.
    SyncRuns,
    /// The list of tasks.
    Tasks,
}

#[cfg(feature = "planted-leaks")]
impl PlantedLeak {
    pub const ALL: [Self; 3] = [Self::WaitingParties, Self::SyncRuns, Self::Tasks];

    /// Plants a leak in this process in place of the one before.
    pub fn plant(leak: Option<Self>) {
        PLANTED.store(leak.map_or(0, |leak| leak as u8), Ordering::SeqCst);
    }
}

#[cfg(feature = "planted-leaks")]
static PLANTED: AtomicU8 = AtomicU8::new(0);

impl PlantedLeak {
    /// Returns true if it is planted.
    #[cfg(feature = "planted-leaks")]
    pub(crate) fn is_planted(self) -> bool {
        PLANTED.load(Ordering::SeqCst) == self as u8
    }

    /// Returns false: no leak can be planted in this build.
    #[cfg(not(feature = "planted-leaks"))]
    pub(crate) const fn is_planted(self) -> bool {
        false
    }
}
