-- The outbox also holds changes of waiting and daily digests. A CHECK cannot be changed, so that the table is written again;
-- dropping it would delete the notifications that refer to it, so that they are written again, too.
CREATE TABLE outbox_with_waiting (
    id          INTEGER PRIMARY KEY,
    kind        TEXT    NOT NULL CHECK (kind IN
                    ('pr_status_change', 'task_status_change', 'worktree_kept', 'waiting_change', 'digest')),
    -- The pull request, which is the cause of a task's change; NULL if a person is the cause, and for a digest.
    repo_id     INTEGER,
    repo_name   TEXT,
    number      INTEGER,
    task_id     TEXT,
    old_status  TEXT,
    new_status  TEXT,
    -- On GitHub, at the change by a person, or of a digest, in seconds.
    happened_at INTEGER NOT NULL,
    sync_source TEXT CHECK (sync_source IN ('webhook', 'worker', 'monitor')),
    reason      TEXT,
    -- By our own clock, in milliseconds.
    recorded_at INTEGER NOT NULL,
    -- The only channel that is sent it; NULL for all.
    recipient   TEXT,
    -- JSON, of a waiting change or a digest.
    content     TEXT
) STRICT;

INSERT INTO outbox_with_waiting (id, kind, repo_id, repo_name, number, task_id, old_status, new_status, happened_at,
    sync_source, reason, recorded_at)
SELECT id, kind, repo_id, repo_name, number, task_id, old_status, new_status, happened_at, sync_source, reason, recorded_at
FROM outbox;

CREATE TABLE notifications_of_waiting (
    event_id        INTEGER NOT NULL REFERENCES outbox_with_waiting (id) ON DELETE CASCADE,
    channel         TEXT    NOT NULL,
    -- A later one of the same subject makes the earlier one obsolete.
    subject         TEXT    NOT NULL,
    state           TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead', 'superseded')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    taken_up_at     INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    -- The result of the last attempt.
    answer          TEXT,
    finished_at     INTEGER,
    -- The end of the quiet hours in which it was not sent, in milliseconds.
    held_until      INTEGER,
    PRIMARY KEY (event_id, channel)
) STRICT, WITHOUT ROWID;

INSERT INTO notifications_of_waiting (event_id, channel, subject, state, attempts, taken_up_at, next_attempt_at, answer,
    finished_at)
SELECT event_id, channel, subject, state, attempts, taken_up_at, next_attempt_at, answer, finished_at FROM notifications;

DROP TABLE notifications;
DROP TABLE outbox;
ALTER TABLE outbox_with_waiting RENAME TO outbox;
ALTER TABLE notifications_of_waiting RENAME TO notifications;

-- A change is stored once, whatever source brings it.
CREATE UNIQUE INDEX outbox_changes ON outbox (repo_id, number, new_status, happened_at)
    WHERE kind = 'pr_status_change';
-- A later one about the same pull request makes a waiting change obsolete.
CREATE INDEX outbox_waiting ON outbox (repo_id, number, id) WHERE kind = 'waiting_change';

CREATE INDEX notifications_pending ON notifications (channel, event_id) WHERE state = 'pending';
-- Finds a newer one of the same subject.
CREATE INDEX notifications_sent ON notifications (channel, subject, event_id) WHERE state = 'sent';
-- Finds a newer one of the same subject that waits, too, when quiet hours end.
CREATE INDEX notifications_pending_by_subject ON notifications (channel, subject, event_id) WHERE state = 'pending';
-- The dead ones as they are listed.
CREATE INDEX notifications_dead ON notifications (event_id DESC, channel) WHERE state = 'dead';

-- The date, in the zone of the channel's calendar, of its last digest.
ALTER TABLE channels ADD COLUMN digest_day TEXT;
