-- Tasks, which follow their pull requests.
CREATE TABLE tasks (
    -- A UUID, as it is written.
    id            text        NOT NULL COLLATE "C" PRIMARY KEY,
    team_id       bigint      NOT NULL DEFAULT 1 REFERENCES teams (id),
    -- What people call it, in capitals.
    task_key      text        COLLATE "C" UNIQUE,
    title         text        NOT NULL,
    status        text        NOT NULL CHECK (status IN ('TODO', 'IMPLEMENTING', 'CODE_REVIEWING', 'DONE', 'CANCELLED')),
    -- The last word of a person on its status; null while there was none.
    said          text,
    said_at       timestamptz,
    -- Where it is worked on: what its pull request is made of, and what is cleaned up after the merge.
    repo_name     text        COLLATE "C",
    branch        text        COLLATE "C",
    worktree      text,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    -- Raised by every write and every mark; a writer that read an older one starts again.
    version       bigint      NOT NULL DEFAULT 1,
    -- Marks: something of its pull requests changed; its branch was pushed to; its working tree may have had its day.
    follow_due    bigint      NOT NULL DEFAULT 1,
    push_due      bigint      NOT NULL DEFAULT 0,
    cleanup_due   bigint      NOT NULL DEFAULT 0,
    -- How often what is due was tried in vain, and until when it is left alone.
    tries         bigint      NOT NULL DEFAULT 0,
    not_before    timestamptz
);

CREATE INDEX tasks_by_age ON tasks (created_at, id);
CREATE INDEX tasks_follow_due ON tasks (id) WHERE follow_due = 1;
CREATE INDEX tasks_push_due ON tasks (id) WHERE push_due = 1;
CREATE INDEX tasks_cleanup_due ON tasks (id) WHERE cleanup_due = 1;
CREATE INDEX tasks_by_branch ON tasks (branch) WHERE branch IS NOT NULL;

-- Pull requests that people linked to tasks.
CREATE TABLE task_links (
    task_id   text        NOT NULL COLLATE "C" REFERENCES tasks (id),
    repo_id   bigint      NOT NULL,
    number    bigint      NOT NULL,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (task_id, repo_id, number)
);

CREATE INDEX task_links_by_pull_request ON task_links (repo_id, number);

-- Keys that pull requests name, be there such a task or not.
CREATE TABLE mentions (
    task_key text   NOT NULL COLLATE "C",
    repo_id  bigint NOT NULL,
    number   bigint NOT NULL,
    PRIMARY KEY (task_key, repo_id, number)
);

CREATE INDEX mentions_by_pull_request ON mentions (repo_id, number);

-- Every change of a task's status, and what was tried for it.
CREATE TABLE task_history (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id     text        NOT NULL COLLATE "C" REFERENCES tasks (id),
    -- Of the cause.
    happened_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- Null for its creation.
    old_status  text,
    new_status  text        NOT NULL,
    cause       text        NOT NULL,
    -- The pull request that is the cause.
    repo_id     bigint,
    number      bigint,
    note        text
);

CREATE INDEX task_history_by_task ON task_history (task_id, id);

-- The outbox tells of tasks, too.
ALTER TABLE outbox ADD COLUMN kind text NOT NULL DEFAULT 'pr_status_change'
    CHECK (kind IN ('pr_status_change', 'task_status_change', 'worktree_kept'));
ALTER TABLE outbox ALTER COLUMN kind DROP DEFAULT;
ALTER TABLE outbox ADD COLUMN task_id text COLLATE "C";
ALTER TABLE outbox ADD COLUMN reason text;
-- Of the pull request, which is the cause where a task is told of; null if a person is.
ALTER TABLE outbox ALTER COLUMN repo_id DROP NOT NULL;
ALTER TABLE outbox ALTER COLUMN repo_name DROP NOT NULL;
ALTER TABLE outbox ALTER COLUMN number DROP NOT NULL;
ALTER TABLE outbox ALTER COLUMN new_status DROP NOT NULL;
ALTER TABLE outbox ALTER COLUMN sync_source DROP NOT NULL;
ALTER TABLE outbox DROP CONSTRAINT outbox_old_status_check;
ALTER TABLE outbox DROP CONSTRAINT outbox_new_status_check;
ALTER TABLE outbox DROP CONSTRAINT outbox_repo_id_number_new_status_happened_at_key;
-- A change is told once, whoever brings it.
CREATE UNIQUE INDEX outbox_changes ON outbox (repo_id, number, new_status, happened_at)
    WHERE kind = 'pr_status_change';
