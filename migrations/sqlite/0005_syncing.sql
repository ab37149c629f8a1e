-- What is asked of GitHub, and how far that has come. Columns are named here as in PostgreSQL, since one SQL text serves
-- both: moments of GitHub's (watermark, complete_since) are seconds since 1970, all others milliseconds.

ALTER TABLE repositories RENAME COLUMN tracked_since_ms TO tracked_since;
ALTER TABLE repositories ADD COLUMN tracked INTEGER NOT NULL DEFAULT 1;
ALTER TABLE repositories ADD COLUMN sync_status TEXT NOT NULL DEFAULT 'pending'
    CHECK (sync_status IN ('pending', 'syncing', 'synced', 'error'));
ALTER TABLE repositories ADD COLUMN last_sync_at INTEGER;
ALTER TABLE repositories ADD COLUMN last_error TEXT;
ALTER TABLE repositories ADD COLUMN last_delivery_at INTEGER;
-- The newest updated_at that a listing of GitHub's showed and that is in the inbox.
ALTER TABLE repositories ADD COLUMN watermark INTEGER;
-- When all of it was last compared with GitHub's.
ALTER TABLE repositories ADD COLUMN reconciled_at INTEGER;
-- Every pull request that was updated since then was fetched once.
ALTER TABLE repositories ADD COLUMN complete_since INTEGER;
ALTER TABLE repositories ADD COLUMN missed_by_webhook INTEGER NOT NULL DEFAULT 0;

-- Backfills.
CREATE TABLE sync_runs (
    id              INTEGER PRIMARY KEY,
    repo_id         INTEGER NOT NULL REFERENCES repositories (id),
    state           TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    -- JSON: {"days_back", "max_prs", "commits"}
    options         TEXT    NOT NULL,
    -- JSON: where it goes on, in words of whoever walks.
    walk            TEXT,
    prs_done        INTEGER NOT NULL DEFAULT 0,
    prs_total       INTEGER,
    reviews_synced  INTEGER NOT NULL DEFAULT 0,
    -- JSON: [{"pr", "error"}]
    errors          TEXT    NOT NULL DEFAULT '[]',
    error           TEXT,
    github_requests INTEGER NOT NULL DEFAULT 0,
    complete_since  INTEGER,
    asked_at        INTEGER NOT NULL,
    started_at      INTEGER,
    finished_at     INTEGER,
    -- Whose it is while it is running, and until when.
    lease           INTEGER NOT NULL DEFAULT 0,
    leased_until    INTEGER
) STRICT;

CREATE INDEX sync_runs_by_repository ON sync_runs (repo_id, id);
-- One at a time, which is also how those to be done are found.
CREATE UNIQUE INDEX sync_runs_unfinished ON sync_runs (repo_id) WHERE state IN ('queued', 'running');

-- Pull requests that are watched by asking, also in repositories that are not tracked.
CREATE TABLE monitors (
    -- The name in lower case.
    repo_key   TEXT    NOT NULL,
    repo_name  TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    checked_at INTEGER,
    -- Since it last went well.
    failures   INTEGER NOT NULL DEFAULT 0,
    error      TEXT,
    PRIMARY KEY (repo_key, number)
) STRICT, WITHOUT ROWID;

-- The poller's record: one row.
CREATE TABLE poller (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    running_since INTEGER,
    last_sync_at  INTEGER,
    sync_count    INTEGER NOT NULL DEFAULT 0,
    error_count   INTEGER NOT NULL DEFAULT 0,
    -- Somebody asked for a round that has not begun.
    asked_at      INTEGER,
    -- JSON, in words of whoever polls.
    statistics    TEXT
) STRICT;

INSERT INTO poller (id) VALUES (1);

-- When GitHub was asked about just this pull request; apart, so that asking writes no facts.
CREATE TABLE checks (
    repo_id    INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    PRIMARY KEY (repo_id, number)
) STRICT, WITHOUT ROWID;

-- Those of which only parts were ever seen.
CREATE INDEX pull_requests_unfetched ON pull_requests (repo_id, number) WHERE full_updated_at IS NULL;
