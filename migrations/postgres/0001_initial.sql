-- Every moment is a timestamptz: GitHub's are whole seconds, our own are not. Durations are seconds (columns ending in
-- _s). Texts that are compared or sorted are so by their bytes, whatever the database's locale.

-- The inbox. A row goes accepted -> applied | ignored | dead, and back to accepted when it is requeued.
CREATE TABLE deliveries (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    guid            text        NOT NULL COLLATE "C",
    body_sha256     bytea       NOT NULL,
    event           text        NOT NULL COLLATE "C",
    action          text,
    repo_id         bigint,
    repo_name       text        COLLATE "C",
    pr_number       bigint,
    source          text        NOT NULL CHECK (source IN ('webhook', 'poller', 'backfill', 'monitor')),
    lane            text        NOT NULL CHECK (lane IN ('live', 'backfill')),
    state           text        NOT NULL CHECK (state IN ('accepted', 'applied', 'ignored', 'dead')),
    reason          text        COLLATE "C",
    attempts        integer     NOT NULL DEFAULT 0,
    received_at     timestamptz NOT NULL,
    -- When the row is handed to the queue (again) unless it is finished by then.
    next_attempt_at timestamptz NOT NULL,
    -- Until when the worker that claimed it has it to itself; null while it is nobody's.
    leased_until    timestamptz,
    -- Who claimed it: the key of the advisory lock that every connection of that process holds.
    leased_by       integer,
    -- When, by the clock of this server.
    leased_at       timestamptz,
    finished_at     timestamptz,
    body_bytes      bigint      NOT NULL,
    -- [{"at", "attempt", "error"}], what went wrong so far.
    history         jsonb       NOT NULL DEFAULT '[]',
    -- Whether a copy of a dead letter went to the broker's queue of dead ones.
    dead_copied     boolean     NOT NULL DEFAULT false,
    UNIQUE (guid, body_sha256)
);

-- Newest first, which is how they are listed, of one state at a time. NULLS LAST, where there are no nulls, keeps a
-- planner from walking down the primary key instead, past a backlog of any length.
CREATE INDEX deliveries_by_state ON deliveries (state, id DESC NULLS LAST);
CREATE INDEX deliveries_by_event ON deliveries (event, state, id DESC NULLS LAST);
-- Of the beginning, so that no name is too long for an index.
CREATE INDEX deliveries_by_repository ON deliveries (lower(substr(repo_name, 1, 200)), state, id DESC NULLS LAST);
-- Which events end in which state is no accident, and a planner that took it for one would look for what is not there.
CREATE STATISTICS deliveries_kinds (mcv) ON event, state FROM deliveries;
CREATE INDEX deliveries_by_age ON deliveries (received_at);
CREATE INDEX deliveries_due ON deliveries (lane, next_attempt_at, id) WHERE state = 'accepted';
CREATE INDEX deliveries_uncopied ON deliveries (id) WHERE state = 'dead' AND NOT dead_copied;
CREATE INDEX deliveries_leased ON deliveries (leased_by) WHERE state = 'accepted' AND leased_until IS NOT NULL;

-- Apart from the rows above, since those are written three times and these once.
CREATE TABLE delivery_bodies (
    delivery_id bigint PRIMARY KEY REFERENCES deliveries (id) ON DELETE CASCADE,
    -- zstd
    body        bytea  NOT NULL
);

-- It is compressed already.
ALTER TABLE delivery_bodies ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE repositories (
    id              bigint      PRIMARY KEY,
    name            text        NOT NULL COLLATE "C",
    private         boolean,
    seen_at         timestamptz NOT NULL,
    installation_id bigint,
    access          text        NOT NULL CHECK (access IN ('granted', 'revoked', 'deleted')),
    access_at       timestamptz NOT NULL,
    tracked_since   timestamptz NOT NULL
);

CREATE INDEX repositories_by_name ON repositories (lower(substr(name, 1, 200)));

-- Access to all repositories of a GitHub App installation at once; kept apart, since it may come before any of them.
CREATE TABLE installations (
    id        bigint      PRIMARY KEY,
    access    text        NOT NULL COLLATE "C" CHECK (access IN ('granted', 'revoked')),
    access_at timestamptz NOT NULL
);

-- Facts of a repository are stored once; teams see repositories through team_repositories.
CREATE TABLE teams (
    id   bigint PRIMARY KEY,
    name text   NOT NULL UNIQUE
);

INSERT INTO teams (id, name) VALUES (1, 'default');

CREATE TABLE team_repositories (
    team_id bigint NOT NULL REFERENCES teams (id),
    repo_id bigint NOT NULL REFERENCES repositories (id),
    PRIMARY KEY (team_id, repo_id)
);

CREATE TABLE pull_requests (
    repo_id             bigint  NOT NULL,
    number              bigint  NOT NULL,
    -- Raised by every write; a writer that read an older one starts again.
    version             bigint  NOT NULL,
    pr_id               uuid    NOT NULL,
    github_pr_id        bigint,
    pr_created_at       timestamptz,
    author_id           bigint,
    author_login        text    COLLATE "C",
    author_type         text,
    author_at           timestamptz,
    -- Carried by every payload, guarded by updated_at; null while only a merge group spoke of it.
    updated_at          timestamptz,
    title               text,
    html_url            text,
    labels              text[],
    is_open             boolean,
    closed_at           timestamptz,
    -- Carried by payloads with a pull request.
    branches_updated_at timestamptz,
    draft               boolean,
    base_ref            text,
    head_ref            text,
    head_sha            text,
    head_repo_id        bigint,
    -- Carried by full payloads only.
    full_updated_at     timestamptz,
    additions           bigint,
    deletions           bigint,
    changed_files       bigint,
    commits             bigint,
    merged_at           timestamptz,
    -- What is known of the dates of its commits.
    commit_first_at     timestamptz,
    commit_last_at      timestamptz,
    commit_prehistoric  boolean,
    source              text,
    -- Worked out from the above by this version of the definitions.
    definition          bigint,
    state               text    CHECK (state IN ('open', 'closed', 'merged')),
    author_is_bot       boolean,
    first_commit_at     timestamptz,
    ready_at            timestamptz,
    first_response_at   timestamptz,
    first_review_at     timestamptz,
    final_approval_at   timestamptz,
    cycle_time_s        bigint,
    review_time_s       bigint,
    coding_s            bigint,
    pickup_s            bigint,
    review_s            bigint,
    merge_wait_s        bigint,
    redraft_s           bigint,
    closed_s            bigint,
    flags               text[],
    body                text,
    -- The facts, [{"at", "type", "subject", "detail", "actor"}]
    timeline            jsonb   NOT NULL,
    -- What snapshots showed, {"epoch": {"open", "draft"}}
    observed            jsonb   NOT NULL,
    PRIMARY KEY (repo_id, number)
);

-- Newest update first, which is how they are listed and paged, of one state at a time: of all repositories, of one, and
-- of an author (of the beginning of the login, so that none is too long for an index).
CREATE INDEX pull_requests_by_state ON pull_requests (state, updated_at, repo_id, number);
CREATE INDEX pull_requests_by_repository ON pull_requests (repo_id, state, updated_at, number);
CREATE INDEX pull_requests_by_author ON pull_requests
    (lower(substr(author_login, 1, 100)), state, updated_at, repo_id, number);

-- All that aggregates need, in the order in which they need it, so that the rows themselves are not read.
CREATE INDEX pull_requests_merged ON pull_requests (merged_at) INCLUDE (author_is_bot, flags, cycle_time_s,
    review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s) WHERE state = 'merged';
CREATE INDEX pull_requests_merged_by_repository ON pull_requests (repo_id, merged_at) INCLUDE (author_is_bot, flags,
    cycle_time_s, review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s)
    WHERE state = 'merged';
CREATE INDEX pull_requests_closed ON pull_requests (closed_at) INCLUDE (repo_id, author_is_bot) WHERE state = 'closed';

CREATE TABLE reviews (
    github_review_id bigint      PRIMARY KEY,
    repo_id          bigint      NOT NULL,
    number           bigint      NOT NULL,
    reviewer_id      bigint      NOT NULL,
    reviewer_login   text        NOT NULL,
    reviewer_type    text        NOT NULL,
    original_state   text        CHECK (original_state IN ('approved', 'changes_requested', 'commented')),
    submitted_at     timestamptz NOT NULL,
    commit_id        text,
    dismissed        boolean     NOT NULL,
    dismissed_at     timestamptz
);

CREATE INDEX reviews_by_pull_request ON reviews (repo_id, number);

CREATE TABLE api_tokens (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team_id    bigint      NOT NULL DEFAULT 1 REFERENCES teams (id),
    name       text        NOT NULL UNIQUE,
    -- Of the token, which is shown once and never stored.
    sha256     bytea       NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
