//! The database's ability to store deliveries now.
//!
//! A read does not prove it: a full disk, a lock held by another process, a deleted file still
//! answer reads. One task of a process calls [`Store::examine`] each second. Real commits decide as
//! long as there are any; without them a probe does.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::columns::Millis;
use crate::database::{Database, Writer, statement};
use crate::{AcceptOutcome, Moment, Result, Store, StoreError};

/// Free bytes under which an operator has to act. A busy installation writes that much in a few
/// days.
pub const LOW_SPACE: u64 = 1 << 30;
/// Free bytes under which deliveries are about to be refused: two of GitHub's largest payloads, as
/// row and in the write-ahead log.
pub const NO_SPACE: u64 = 50 << 20;

/// Commits that failed in a row until the database counts as failing. One alone may be an accident
/// that the next does not have.
const FAILED_COMMITS: u32 = 3;
/// The age of the last failed commit from which on a probe decides instead: no load balancer sends
/// the delivery that would show that commits succeed again.
const RECENT: Duration = Duration::from_secs(5);
/// The limit of a probe.
const PROBE: Duration = Duration::from_secs(1);
/// The time that a probe waits for another write of this process, which may be a large one or wait
/// for a lock itself.
const BUSY: Duration = Duration::from_secs(2);
/// The age from which on an examination counts as stuck, such as in a network disk that is gone.
const STUCK: Duration = Duration::from_secs(15);
/// Bytes that a probe stores after a failed commit: more than the free pages that a full database
/// still has.
const PROBE_BODY: usize = 64 * 1024;

/// The reason why nothing can be stored now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// The disk is full or nearly so.
    NoSpace,
    /// The file was removed or replaced while it is in use.
    Replaced,
    /// Commits fail.
    Failing,
    /// A lock, a server or a disk does not answer.
    Unanswered,
}

impl StorageFault {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSpace => "no_space",
            Self::Replaced => "replaced",
            Self::Failing => "failing",
            Self::Unanswered => "unanswered",
        }
    }
}

/// The result of an examination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageReport {
    /// The reason why nothing can be stored, with the text for the log.
    pub fault: Option<(StorageFault, String)>,
    /// Free bytes of the disk; `None` if the database is on another machine.
    pub free_bytes: Option<u64>,
    /// Size of SQLite's write-ahead log.
    pub wal_bytes: Option<u64>,
}

impl StorageReport {
    /// Reports whether an operator has to make room.
    pub fn is_low(&self) -> bool {
        self.free_bytes.is_some_and(|free| free < LOW_SPACE)
    }
}

/// Counts of the commits of accepted deliveries.
#[derive(Debug, Default)]
pub(crate) struct CommitRecord(Mutex<CommitCounts>);

#[derive(Clone, Debug, Default)]
struct CommitCounts {
    /// That stored something. One of repetitions alone writes nothing and proves nothing.
    stored: u64,
    failed_in_a_row: u32,
    failed_at: Option<Instant>,
    last_error: String,
}

impl CommitCounts {
    fn fail_now(&self) -> bool {
        self.failed_in_a_row >= FAILED_COMMITS
            && self.failed_at.is_some_and(|at| at.elapsed() < RECENT)
    }
}

impl CommitRecord {
    /// Counts the commit of a group. Values that the database refuses say nothing about it.
    pub(crate) fn count(&self, committed: &Result<Vec<AcceptOutcome>>) {
        let mut commits = self.0.lock();
        match committed {
            Ok(outcomes) if outcomes.iter().any(|it| *it != AcceptOutcome::Duplicate) => {
                commits.stored += 1;
                let failed = std::mem::take(&mut commits.failed_in_a_row);
                if failed > 0 {
                    tracing::info!(
                        failed,
                        "deliveries are stored again, after {failed} failures"
                    );
                }
            }
            Err(error) if !matches!(error, StoreError::Closed) && !error.rejects_data() => {
                if commits.failed_in_a_row == 0 {
                    tracing::error!(
                        %error,
                        "deliveries cannot be stored: {error}; each is answered with 503 until \
                         one can"
                    );
                }
                commits.failed_in_a_row = commits.failed_in_a_row.saturating_add(1);
                commits.failed_at = Some(Instant::now());
                commits.last_error = error.to_string();
            }
            _ => {}
        }
    }
}

/// The last examination.
#[derive(Debug, Default)]
pub(crate) struct LastExamination(Mutex<Option<ExaminationResult>>);

#[derive(Clone, Debug)]
struct ExaminationResult {
    at: Instant,
    /// Of [`CommitCounts`], at its beginning.
    stored: u64,
    /// The last failed commit since which a probe has stored something; there is no need for another.
    refuted: Option<Instant>,
    report: StorageReport,
}

impl Store {
    /// Finds out whether something can be stored now, and remembers it for
    /// [`condition`](Self::condition).
    pub async fn examine(&self) -> StorageReport {
        let commits = self.commit_record().0.lock().clone();
        let (stored, failed_at) = (commits.stored, commits.failed_at);
        let mut report = match &self.database {
            Database::Sqlite(database) => database.examine_file().await,
            Database::Postgres(_) => StorageReport::default(),
        };
        if report.fault.is_none() {
            report.fault = self.try_to_store(commits).await;
        }
        *self.examined.0.lock() = Some(ExaminationResult {
            at: Instant::now(),
            stored,
            refuted: failed_at.filter(|_| report.fault.is_none()),
            report: report.clone(),
        });
        report
    }

    async fn try_to_store(&self, commits: CommitCounts) -> Option<(StorageFault, String)> {
        let last = self.examined.0.lock().clone();
        let before = last.as_ref().map(|last| last.stored);
        if commits.failed_in_a_row == 0 && before.is_some_and(|before| commits.stored > before) {
            return None;
        }
        if commits.fail_now() {
            return Some((StorageFault::Failing, commits.last_error));
        }
        let refuted = last.and_then(|last| last.refuted);
        let writes = commits.failed_in_a_row > 0 && commits.failed_at != refuted;
        let error = self.probe(writes).await.err()?;
        let fault = match error {
            StoreError::Unanswered => StorageFault::Unanswered,
            _ => StorageFault::Failing,
        };
        Some((fault, error.to_string()))
    }

    /// Begins a transaction as a commit of deliveries does, and stores and deletes a delivery in it
    /// if one `writes`.
    async fn probe(&self, writes: bool) -> Result<()> {
        let writer = timeout(BUSY, self.database.writer());
        let mut writer = writer.await.map_err(|_| StoreError::Unanswered)??;
        timeout(PROBE, probe_on(&mut writer, writes))
            .await
            .map_err(|_| StoreError::Unanswered)?
    }

    fn commit_record(&self) -> &CommitRecord {
        match &self.database {
            Database::Sqlite(database) => &database.group_commit.record,
            Database::Postgres(database) => &database.group_commit.record,
        }
    }

    /// Returns the last report; of a process that does not examine, what its commits say.
    pub fn condition(&self) -> StorageReport {
        let commits = self.commit_record().0.lock().clone();
        let examination = self.examined.0.lock().clone();
        let (at, stored, mut report) = match examination {
            Some(last) => (last.at, last.stored, last.report),
            None => (Instant::now(), commits.stored, StorageReport::default()),
        };
        if commits.fail_now() {
            report
                .fault
                .get_or_insert((StorageFault::Failing, commits.last_error));
        } else if at.elapsed() > STUCK {
            let text = format!("no examination ended for {} s", at.elapsed().as_secs());
            report.fault = Some((StorageFault::Unanswered, text));
        } else if commits.stored > stored
            && matches!(
                report.fault,
                Some((StorageFault::Failing | StorageFault::Unanswered, _))
            )
        {
            report.fault = None;
        }
        report
    }
}

async fn probe_on(writer: &mut Writer, writes: bool) -> Result<()> {
    let is_postgres = matches!(writer, Writer::Postgres(_));
    let mut transaction = writer.begin().await?;
    if is_postgres {
        let read_only = statement("SELECT current_setting('transaction_read_only') = 'on'");
        if let Some((true,)) = transaction.row(read_only).await? {
            return Err(StoreError::ReadOnly);
        }
    }
    if !writes {
        return transaction.rollback().await;
    }
    let mut noise = vec![0; PROBE_BODY];
    rand::fill(&mut noise[..]);
    let guid = format!("probe-{}", hex::encode(&noise[..16]));
    let insert = statement(
        "INSERT INTO deliveries (guid, body_sha256, event, source, lane, state, received_at, \
         next_attempt_at, body_bytes) \
         VALUES ($1, $2, 'probe', 'webhook', 'live', 'ignored', $3, $3, 0) RETURNING id",
    )
    .bind(guid)
    .bind(&noise[..32])
    .bind(Millis(Moment::UNIX_EPOCH));
    if let Some((id,)) = transaction.row::<(i64,)>(insert).await? {
        let body = statement("INSERT INTO delivery_bodies (delivery_id, body) VALUES ($1, $2)");
        transaction.execute(body.bind(id).bind(&noise[..])).await?;
        // With its body.
        let delete = statement("DELETE FROM deliveries WHERE id = $1");
        transaction.execute(delete.bind(id)).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeliveryId;

    #[test]
    fn three_failures_in_a_row_are_a_fault_until_something_is_stored() {
        let record = CommitRecord::default();
        let fails = |record: &CommitRecord| record.0.lock().fail_now();
        let failure = || Err(StoreError::Unanswered);
        for _ in 1..FAILED_COMMITS {
            record.count(&failure());
            assert!(!fails(&record));
        }
        record.count(&failure());
        assert!(fails(&record));
        // Neither the end of the process nor a commit that writes nothing says anything.
        record.count(&Err(StoreError::Closed));
        record.count(&Ok(vec![AcceptOutcome::Duplicate]));
        assert!(fails(&record));
        record.count(&Ok(vec![
            AcceptOutcome::Duplicate,
            AcceptOutcome::Stored(DeliveryId(1)),
        ]));
        record.count(&failure());
        assert!(!fails(&record));
    }

    #[test]
    fn low_space_is_reported_before_no_space() {
        let is_low = |free_bytes| {
            StorageReport {
                free_bytes,
                ..StorageReport::default()
            }
            .is_low()
        };
        assert!(is_low(Some(LOW_SPACE - 1)) && is_low(Some(NO_SPACE)));
        assert!(!is_low(Some(LOW_SPACE)) && !is_low(None));
    }
}
