-- Administrative acts, each written in the transaction of the act. Rows are added and, when they are old, deleted; no other
-- statement writes them.
CREATE TABLE audit_events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    -- NULL is the installation itself.
    team_id     INTEGER REFERENCES teams (id),
    actor_kind  TEXT    NOT NULL CHECK (actor_kind IN ('user', 'session', 'token', 'operator', 'command', 'system')),
    actor_id    TEXT,
    -- As it was at the time.
    actor_name  TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    target_kind TEXT,
    target_id   TEXT,
    target_name TEXT,
    -- JSON, without secrets.
    before      TEXT,
    after       TEXT,
    -- The first 24 bits of an address of IPv4, the first 48 of IPv6.
    ip          TEXT,
    agent       TEXT,
    result      TEXT    NOT NULL CHECK (result IN ('ok', 'denied', 'failed'))
) STRICT;

CREATE INDEX audit_events_of_team ON audit_events (team_id, id);
CREATE INDEX audit_events_by_time ON audit_events (at);

CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events BEGIN
    SELECT RAISE(ABORT, 'a row of audit_events is never changed');
END;

-- Requests to GitHub. The row of a mutation is written before it is sent, and completed by its response.
CREATE TABLE github_calls (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    at             INTEGER NOT NULL,
    team_id        INTEGER REFERENCES teams (id),
    actor          TEXT    NOT NULL,
    connection_id  TEXT,
    method         TEXT    NOT NULL,
    -- The path with names in place of values.
    route          TEXT    NOT NULL,
    -- Without values of the query but those of pages.
    path           TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    -- 1 is a request that may change something at GitHub.
    mutation       INTEGER NOT NULL,
    outcome        TEXT    NOT NULL CHECK (outcome IN ('done', 'failed', 'unknown')),
    status         INTEGER,
    error          TEXT,
    duration_ms    INTEGER,
    attempt        INTEGER NOT NULL,
    bytes_out      INTEGER NOT NULL,
    rate_remaining INTEGER,
    request_id     TEXT,
    correlation    TEXT
) STRICT;

CREATE INDEX github_calls_of_team ON github_calls (team_id, id);
CREATE INDEX github_calls_by_time ON github_calls (at);
