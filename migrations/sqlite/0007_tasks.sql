-- Tasks, which follow their pull requests.
CREATE TABLE tasks (
    -- A UUID, as it is written.
    id            TEXT    NOT NULL PRIMARY KEY,
    team_id       INTEGER NOT NULL DEFAULT 1 REFERENCES teams (id),
    -- What people call it, in capitals.
    task_key      TEXT    UNIQUE,
    title         TEXT    NOT NULL,
    status        TEXT    NOT NULL CHECK (status IN ('TODO', 'IMPLEMENTING', 'CODE_REVIEWING', 'DONE', 'CANCELLED')),
    -- The last word of a person on its status, in seconds; null while there was none.
    said          TEXT,
    said_at       INTEGER,
    -- Where it is worked on: what its pull request is made of, and what is cleaned up after the merge.
    repo_name     TEXT,
    branch        TEXT,
    worktree      TEXT,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    -- Raised by every write and every mark; a writer that read an older one starts again.
    version       INTEGER NOT NULL DEFAULT 1,
    -- Marks: something of its pull requests changed; its branch was pushed to; its working tree may have had its day.
    follow_due    INTEGER NOT NULL DEFAULT 1,
    push_due      INTEGER NOT NULL DEFAULT 0,
    cleanup_due   INTEGER NOT NULL DEFAULT 0,
    -- How often what is due was tried in vain, and until when it is left alone.
    tries         INTEGER NOT NULL DEFAULT 0,
    not_before    INTEGER
) STRICT;

CREATE INDEX tasks_by_age ON tasks (created_at, id);
CREATE INDEX tasks_follow_due ON tasks (id) WHERE follow_due = 1;
CREATE INDEX tasks_push_due ON tasks (id) WHERE push_due = 1;
CREATE INDEX tasks_cleanup_due ON tasks (id) WHERE cleanup_due = 1;
CREATE INDEX tasks_by_branch ON tasks (branch) WHERE branch IS NOT NULL;

-- Pull requests that people linked to tasks.
CREATE TABLE task_links (
    task_id   TEXT    NOT NULL REFERENCES tasks (id),
    repo_id   INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (task_id, repo_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX task_links_by_pull_request ON task_links (repo_id, number);

-- Keys that pull requests name, be there such a task or not.
CREATE TABLE mentions (
    task_key TEXT    NOT NULL,
    repo_id  INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    PRIMARY KEY (task_key, repo_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX mentions_by_pull_request ON mentions (repo_id, number);

-- Every change of a task's status, and what was tried for it.
CREATE TABLE task_history (
    id          INTEGER PRIMARY KEY,
    task_id     TEXT    NOT NULL REFERENCES tasks (id),
    -- Of the cause, in seconds.
    happened_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    -- Null for its creation.
    old_status  TEXT,
    new_status  TEXT    NOT NULL,
    cause       TEXT    NOT NULL,
    -- The pull request that is the cause.
    repo_id     INTEGER,
    number      INTEGER,
    note        TEXT
) STRICT;

CREATE INDEX task_history_by_task ON task_history (task_id, id);

-- The outbox tells of tasks, too. A CHECK cannot be changed, so that the table is made anew.
CREATE TABLE outbox_of_all (
    id          INTEGER PRIMARY KEY,
    kind        TEXT    NOT NULL CHECK (kind IN ('pr_status_change', 'task_status_change', 'worktree_kept')),
    -- Of the pull request, which is the cause where a task is told of; null if a person is.
    repo_id     INTEGER,
    repo_name   TEXT,
    number      INTEGER,
    task_id     TEXT,
    old_status  TEXT,
    new_status  TEXT,
    -- On GitHub, or when a person said so, in seconds.
    happened_at INTEGER NOT NULL,
    sync_source TEXT CHECK (sync_source IN ('webhook', 'worker', 'monitor')),
    reason      TEXT,
    -- By our own clock, in milliseconds.
    recorded_at INTEGER NOT NULL
) STRICT;

INSERT INTO outbox_of_all
    (id, kind, repo_id, repo_name, number, old_status, new_status, happened_at, sync_source, recorded_at)
SELECT id, 'pr_status_change', repo_id, repo_name, number, old_status, new_status, happened_at, sync_source, recorded_at
FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_of_all RENAME TO outbox;

-- A change is told once, whoever brings it.
CREATE UNIQUE INDEX outbox_changes ON outbox (repo_id, number, new_status, happened_at)
    WHERE kind = 'pr_status_change';
