-- What is asked of GitHub, and how far that has come. One SQL text serves both kinds of database, so that JSON is text
-- here and nothing looks into it.

ALTER TABLE repositories
    ADD COLUMN tracked           boolean     NOT NULL DEFAULT true,
    ADD COLUMN sync_status       text        NOT NULL DEFAULT 'pending' COLLATE "C"
        CHECK (sync_status IN ('pending', 'syncing', 'synced', 'error')),
    ADD COLUMN last_sync_at      timestamptz,
    ADD COLUMN last_error        text,
    ADD COLUMN last_delivery_at  timestamptz,
    -- The newest updated_at that a listing of GitHub's showed and that is in the inbox.
    ADD COLUMN watermark         timestamptz,
    -- When all of it was last compared with GitHub's.
    ADD COLUMN reconciled_at     timestamptz,
    -- Every pull request that was updated since then was fetched once.
    ADD COLUMN complete_since    timestamptz,
    ADD COLUMN missed_by_webhook bigint      NOT NULL DEFAULT 0;

-- Backfills.
CREATE TABLE sync_runs (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repo_id         bigint      NOT NULL REFERENCES repositories (id),
    state           text        NOT NULL COLLATE "C"
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    -- {"days_back", "max_prs", "commits"}
    options         text        NOT NULL,
    -- Where it goes on, in words of whoever walks.
    walk            text,
    prs_done        bigint      NOT NULL DEFAULT 0,
    prs_total       bigint,
    reviews_synced  bigint      NOT NULL DEFAULT 0,
    -- [{"pr", "error"}]
    errors          text        NOT NULL DEFAULT '[]',
    error           text,
    github_requests bigint      NOT NULL DEFAULT 0,
    complete_since  timestamptz,
    asked_at        timestamptz NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz,
    -- Whose it is while it is running, and until when.
    lease           bigint      NOT NULL DEFAULT 0,
    leased_until    timestamptz
);

CREATE INDEX sync_runs_by_repository ON sync_runs (repo_id, id);
-- One at a time, which is also how those to be done are found.
CREATE UNIQUE INDEX sync_runs_unfinished ON sync_runs (repo_id) WHERE state IN ('queued', 'running');

-- Pull requests that are watched by asking, also in repositories that are not tracked.
CREATE TABLE monitors (
    -- The name in lower case.
    repo_key   text        NOT NULL COLLATE "C",
    repo_name  text        NOT NULL COLLATE "C",
    number     bigint      NOT NULL,
    since      timestamptz NOT NULL,
    checked_at timestamptz,
    -- Since it last went well.
    failures   bigint      NOT NULL DEFAULT 0,
    error      text,
    PRIMARY KEY (repo_key, number)
);

-- The poller's record: one row.
CREATE TABLE poller (
    id            bigint      PRIMARY KEY CHECK (id = 1),
    running_since timestamptz,
    last_sync_at  timestamptz,
    sync_count    bigint      NOT NULL DEFAULT 0,
    error_count   bigint      NOT NULL DEFAULT 0,
    -- Somebody asked for a round that has not begun.
    asked_at      timestamptz,
    -- In words of whoever polls.
    statistics    text
);

INSERT INTO poller (id) VALUES (1);

-- When GitHub was asked about just this pull request; apart, so that asking writes no facts.
CREATE TABLE checks (
    repo_id    bigint      NOT NULL,
    number     bigint      NOT NULL,
    checked_at timestamptz NOT NULL,
    PRIMARY KEY (repo_id, number)
);

-- Those of which only parts were ever seen.
CREATE INDEX pull_requests_unfetched ON pull_requests (repo_id, number) WHERE full_updated_at IS NULL;
