-- Moments of GitHub's are whole seconds since 1970, our own are milliseconds (columns ending in _ms).

-- The inbox. A row goes accepted -> applied | ignored | dead, and back to accepted when it is requeued.
CREATE TABLE deliveries (
    id              INTEGER PRIMARY KEY,
    guid            TEXT    NOT NULL,
    body_sha256     BLOB    NOT NULL,
    event           TEXT    NOT NULL,
    action          TEXT,
    repo_id         INTEGER,
    repo_name       TEXT,
    pr_number       INTEGER,
    source          TEXT    NOT NULL CHECK (source IN ('webhook', 'poller', 'backfill', 'monitor')),
    lane            TEXT    NOT NULL CHECK (lane IN ('live', 'backfill')),
    state           TEXT    NOT NULL CHECK (state IN ('accepted', 'applied', 'ignored', 'dead')),
    reason          TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0,
    received_ms     INTEGER NOT NULL,
    -- When the row is handed to the queue (again) unless it is finished by then.
    next_attempt_ms INTEGER NOT NULL,
    -- Until when the worker that claimed it has it to itself.
    leased_until_ms INTEGER NOT NULL DEFAULT 0,
    finished_ms     INTEGER,
    body_bytes      INTEGER NOT NULL,
    -- JSON: [{"at", "attempt", "error"}], what went wrong so far.
    history         TEXT    NOT NULL DEFAULT '[]',
    UNIQUE (guid, body_sha256)
) STRICT;

CREATE INDEX deliveries_by_state ON deliveries (state, lane, next_attempt_ms);
CREATE INDEX deliveries_by_age ON deliveries (received_ms);

-- Apart from the rows above, since those are written three times and these once.
CREATE TABLE delivery_bodies (
    delivery_id INTEGER PRIMARY KEY REFERENCES deliveries (id) ON DELETE CASCADE,
    -- zstd
    body        BLOB NOT NULL
) STRICT;

CREATE TABLE repositories (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL,
    private         INTEGER,
    seen_at         INTEGER NOT NULL,
    installation_id INTEGER,
    access          TEXT    NOT NULL CHECK (access IN ('granted', 'revoked', 'deleted')),
    access_at       INTEGER NOT NULL,
    tracked_since_ms INTEGER NOT NULL
) STRICT;

-- Access to all repositories of a GitHub App installation at once; kept apart, since it may come before any of them.
CREATE TABLE installations (
    id        INTEGER PRIMARY KEY,
    access    TEXT    NOT NULL CHECK (access IN ('granted', 'revoked')),
    access_at INTEGER NOT NULL
) STRICT;

CREATE INDEX repositories_by_name ON repositories (name COLLATE NOCASE);

-- Facts of a repository are stored once; teams see repositories through team_repositories.
CREATE TABLE teams (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

INSERT INTO teams (id, name) VALUES (1, 'default');

CREATE TABLE team_repositories (
    team_id INTEGER NOT NULL REFERENCES teams (id),
    repo_id INTEGER NOT NULL REFERENCES repositories (id),
    PRIMARY KEY (team_id, repo_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE pull_requests (
    repo_id             INTEGER NOT NULL,
    number              INTEGER NOT NULL,
    -- Raised by every write; a writer that read an older one starts again.
    version             INTEGER NOT NULL,
    pr_id               TEXT    NOT NULL,
    github_pr_id        INTEGER,
    pr_created_at       INTEGER,
    author_id           INTEGER,
    author_login        TEXT,
    author_type         TEXT,
    author_at           INTEGER,
    -- Carried by every payload, guarded by updated_at; null while only a merge group spoke of it.
    updated_at          INTEGER,
    title               TEXT,
    html_url            TEXT,
    labels              TEXT,
    is_open             INTEGER,
    closed_at           INTEGER,
    -- Carried by payloads with a pull request.
    branches_updated_at INTEGER,
    draft               INTEGER,
    base_ref            TEXT,
    head_ref            TEXT,
    head_sha            TEXT,
    head_repo_id        INTEGER,
    -- Carried by full payloads only.
    full_updated_at     INTEGER,
    additions           INTEGER,
    deletions           INTEGER,
    changed_files       INTEGER,
    commits             INTEGER,
    merged_at           INTEGER,
    -- What is known of the dates of its commits.
    commit_first_at     INTEGER,
    commit_last_at      INTEGER,
    commit_prehistoric  INTEGER,
    source              TEXT,
    -- Worked out from the above by this version of the definitions; durations in seconds.
    definition          INTEGER,
    state               TEXT CHECK (state IN ('open', 'closed', 'merged')),
    author_is_bot       INTEGER,
    first_commit_at     INTEGER,
    ready_at            INTEGER,
    first_response_at   INTEGER,
    first_review_at     INTEGER,
    final_approval_at   INTEGER,
    cycle_time_s        INTEGER,
    review_time_s       INTEGER,
    coding_s            INTEGER,
    pickup_s            INTEGER,
    review_s            INTEGER,
    merge_wait_s        INTEGER,
    redraft_s           INTEGER,
    closed_s            INTEGER,
    -- JSON: ["..."]
    flags               TEXT,
    -- The large ones go last: what lies behind them would be read only through them.
    body                TEXT,
    -- JSON: the facts, [{"at", "type", "subject", "detail", "actor"}]
    timeline            TEXT    NOT NULL,
    -- JSON: what snapshots showed, {"epoch": {"open", "draft"}}
    observed            TEXT    NOT NULL,
    PRIMARY KEY (repo_id, number)
) STRICT;

-- Newest update first, which is how they are listed and paged.
CREATE INDEX pull_requests_by_update ON pull_requests (updated_at DESC, repo_id DESC, number DESC);
CREATE INDEX pull_requests_by_merge ON pull_requests (merged_at) WHERE merged_at IS NOT NULL;

CREATE TABLE reviews (
    github_review_id INTEGER PRIMARY KEY,
    repo_id          INTEGER NOT NULL,
    number           INTEGER NOT NULL,
    reviewer_id      INTEGER NOT NULL,
    reviewer_login   TEXT    NOT NULL,
    reviewer_type    TEXT    NOT NULL,
    original_state   TEXT CHECK (original_state IN ('approved', 'changes_requested', 'commented')),
    submitted_at     INTEGER NOT NULL,
    commit_id        TEXT,
    dismissed        INTEGER NOT NULL,
    dismissed_at     INTEGER
) STRICT;

CREATE INDEX reviews_by_pull_request ON reviews (repo_id, number);

CREATE TABLE api_tokens (
    id         INTEGER PRIMARY KEY,
    team_id    INTEGER NOT NULL DEFAULT 1 REFERENCES teams (id),
    name       TEXT    NOT NULL UNIQUE,
    -- Of the token, which is shown once and never stored.
    sha256     BLOB    NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
