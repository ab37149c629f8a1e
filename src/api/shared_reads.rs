//! Answers that many pages ask for at once, such as those of an overview on a hundred screens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tallyhook_store::TeamId;
use tokio::sync::Mutex as TurnMutex;
use tokio::time::Instant;

use super::error::ApiError;
use super::page::Page;
use super::reads::StoreReads;
use super::team_api::TeamApi;
use super::{ComparedTime, CycleTime, PullRequestItem, RepositoryItem, WaitingAnswer};

/// The lifetime of a shared answer.
const LIFETIME: Duration = Duration::from_secs(1);
/// The most queries of which answers are kept.
const MAX_QUERIES: usize = 64;

/// The answers of this process that were read within the last second, by their team and query.
#[derive(Debug, Default)]
pub struct SharedReads {
    waiting: SharedAnswers<WaitingAnswer>,
    compared: SharedAnswers<ComparedTime>,
    cycle_times: SharedAnswers<CycleTime>,
    pull_requests: SharedAnswers<Page<PullRequestItem>>,
    repositories: SharedAnswers<Page<RepositoryItem>>,
}

impl SharedReads {
    /// Answers as [`StoreReads::waiting`]; an answer from before `asked` is read again.
    pub(crate) async fn waiting(
        &self,
        reads: &StoreReads,
        query: &str,
        asked: Option<Instant>,
    ) -> Result<Arc<WaitingAnswer>, ApiError> {
        let asker = (reads.store.team(), query);
        self.waiting.get(asker, asked, reads.waiting(query)).await
    }

    /// Answers as [`StoreReads::compared`], in the same way.
    pub(crate) async fn compared(
        &self,
        reads: &StoreReads,
        query: &str,
        asked: Option<Instant>,
    ) -> Result<Arc<ComparedTime>, ApiError> {
        let asker = (reads.store.team(), query);
        self.compared.get(asker, asked, reads.compared(query)).await
    }

    /// Answers as [`StoreReads::cycle_time`], in the same way.
    pub(crate) async fn cycle_time(
        &self,
        reads: &StoreReads,
        query: &str,
        asked: Option<Instant>,
    ) -> Result<Arc<CycleTime>, ApiError> {
        let (asker, read) = ((reads.store.team(), query), reads.cycle_time(query));
        self.cycle_times.get(asker, asked, read).await
    }

    /// Answers as [`StoreReads::pull_requests`], in the same way. The query is not about `me`.
    pub(crate) async fn pull_requests(
        &self,
        reads: &StoreReads,
        query: &str,
        asked: Option<Instant>,
    ) -> Result<Arc<Page<PullRequestItem>>, ApiError> {
        let (asker, read) = ((reads.store.team(), query), reads.pull_requests(query));
        self.pull_requests.get(asker, asked, read).await
    }

    /// Answers as [`TeamApi::repositories`], in the same way, with its first page.
    pub(crate) async fn repositories(
        &self,
        api: &TeamApi,
        asked: Option<Instant>,
    ) -> Result<Arc<Page<RepositoryItem>>, ApiError> {
        let (asker, read) = ((api.store.team(), ""), api.repositories(""));
        self.repositories.get(asker, asked, read).await
    }
}

/// One answer with the start of its read; locked while it is read.
type AnswerSlot<T> = Arc<TurnMutex<Option<(Instant, Arc<T>)>>>;

/// The answers of one call.
#[derive(Debug)]
struct SharedAnswers<T>(Mutex<HashMap<(i64, String), AnswerSlot<T>>>);

impl<T> Default for SharedAnswers<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> SharedAnswers<T> {
    /// Returns the answer to a team's `query`: one of the last second whose read began after `asked`, or
    /// else that of `read`. One request of a query reads at a time, and the others wait for it.
    /// Errors are not shared.
    async fn get(
        &self,
        (team, query): (TeamId, &str),
        asked: Option<Instant>,
        read: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<Arc<T>, ApiError> {
        let slot = self.slot((team.0, query.to_owned()));
        let mut slot = slot.lock().await;
        if let Some((begun, answer)) = &*slot
            && begun.elapsed() < LIFETIME
            && asked.is_none_or(|asked| *begun >= asked)
        {
            return Ok(Arc::clone(answer));
        }
        let begun = Instant::now();
        let answer = Arc::new(read.await?);
        *slot = Some((begun, Arc::clone(&answer)));
        Ok(answer)
    }

    fn slot(&self, asker: (i64, String)) -> AnswerSlot<T> {
        let mut slots = self.0.lock();
        if slots.len() >= MAX_QUERIES && !slots.contains_key(&asker) {
            // Those in use stay with their requests.
            slots.clear();
        }
        Arc::clone(slots.entry(asker).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const ONE: TeamId = TeamId(1);

    #[tokio::test]
    async fn one_read_answers_all_that_wait_for_it_and_a_later_one_those_that_ask_after_it() {
        let (answers, reads) = (SharedAnswers::default(), AtomicU32::new(0));
        let read = || async {
            tokio::task::yield_now().await;
            Ok(reads.fetch_add(1, Ordering::Relaxed))
        };
        let many = (0..50).map(|_| answers.get((ONE, "a"), None, read()));
        let many = futures_util::future::join_all(many).await;
        assert!(many.into_iter().all(|answer| *answer.unwrap() == 0));
        assert_eq!(*answers.get((ONE, "b"), None, read()).await.unwrap(), 1);
        // An answer is of one team, whichever asks the same.
        let other = SharedAnswers::default();
        for team in [1, 2] {
            let read = async { Ok(team) };
            let answer = other.get((TeamId(team), "a"), None, read).await;
            assert_eq!(*answer.unwrap(), team);
        }
        let asked = Instant::now();
        let later = (0..50).map(|_| answers.get((ONE, "a"), Some(asked), read()));
        let later = futures_util::future::join_all(later).await;
        assert!(later.into_iter().all(|answer| *answer.unwrap() == 2));
        for query in 0..1000 {
            let query = query.to_string();
            answers.get((ONE, &query), None, read()).await.unwrap();
        }
        assert!(answers.0.lock().len() <= MAX_QUERIES);
    }

    #[tokio::test]
    async fn an_error_ends_at_once() {
        let answers = SharedAnswers::default();
        let failed = answers.get((ONE, "a"), None, async { Err(ApiError::Busy("it is")) });
        assert!(failed.await.is_err());
        assert_eq!(
            *answers
                .get((ONE, "a"), None, async { Ok(1) })
                .await
                .unwrap(),
            1
        );
    }
}
