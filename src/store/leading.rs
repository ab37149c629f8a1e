//! How long a part is this process's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Part, Result, Store};

/// So long after it was asked for nobody else has a part, even if this process was stopped in the meantime.
pub(super) const SURE: Duration = Duration::from_secs(10);
/// How often it is asked.
const TICK: Duration = Duration::from_secs(1);
/// So often in a row the database may leave open whether the part is ours.
const UNANSWERED: u32 = 3;

/// A part as this process knows of it.
pub struct Tenure {
    part: Part,
    /// When it was asked for last and was ours.
    asked: Mutex<Option<Instant>>,
}

impl Tenure {
    pub fn new(part: Part) -> Self {
        Self { part, asked: Mutex::default() }
    }

    /// Takes or keeps the part. Whether this process has it.
    ///
    /// # Errors
    /// If the database fails; then another may have it.
    pub async fn ask(&self, store: &dyn Store) -> Result<bool> {
        // Of what came after that the answer says nothing.
        let at = Instant::now();
        let answer = store.lead(self.part).await;
        let is_ours = matches!(answer, Ok(true));
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = is_ours.then_some(at);
        answer
    }

    /// Whether nobody else can have the part by now.
    pub fn is_sure(&self) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|at| at.elapsed() < SURE)
    }

    /// Ends once another process has a part that this one had, or the database did not answer for so long that another
    /// may have it.
    pub async fn lost(&self, store: &dyn Store) {
        let mut unanswered = 0;
        while unanswered < UNANSWERED {
            sleep(TICK).await;
            match self.ask(store).await {
                Ok(true) => unanswered = 0,
                Ok(false) => break,
                Err(_) => unanswered += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{self, Opening};

    #[tokio::test]
    async fn a_part_is_sure_for_a_while_after_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = store::open(&url, Opening::Alone).await.unwrap();
        let tenure = Tenure::new(Part::Notifier);
        assert!(!tenure.is_sure());
        assert!(tenure.ask(&*store).await.unwrap() && tenure.is_sure());
        // As one sees it who was stopped since.
        *tenure.asked.lock().unwrap() = Instant::now().checked_sub(SURE);
        assert!(!tenure.is_sure());
        assert!(tenure.ask(&*store).await.unwrap() && tenure.is_sure());
        store.close().await;
    }
}
