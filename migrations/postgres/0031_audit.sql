-- Administrative acts, each written in the transaction of the act. Rows are added and, when they are old, deleted; no other
-- statement writes them.
CREATE TABLE audit_events (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    -- NULL is the installation itself.
    team_id     bigint      REFERENCES teams (id),
    actor_kind  text        NOT NULL CHECK (actor_kind IN ('user', 'session', 'token', 'operator', 'command', 'system')),
    actor_id    text,
    -- As it was at the time.
    actor_name  text        NOT NULL,
    action      text        NOT NULL,
    target_kind text,
    target_id   text,
    target_name text,
    -- JSON, without secrets.
    before      text,
    after       text,
    -- The first 24 bits of an address of IPv4, the first 48 of IPv6.
    ip          text,
    agent       text,
    result      text        NOT NULL CHECK (result IN ('ok', 'denied', 'failed'))
);

CREATE INDEX audit_events_of_team ON audit_events (team_id, id);
CREATE INDEX audit_events_by_time ON audit_events (at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row of % is never changed', TG_TABLE_NAME;
END
$$;

CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Requests to GitHub. The row of a mutation is written before it is sent, and completed by its response.
CREATE TABLE github_calls (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    team_id        bigint      REFERENCES teams (id),
    actor          text        NOT NULL,
    connection_id  text,
    method         text        NOT NULL,
    -- The path with names in place of values.
    route          text        NOT NULL,
    -- Without values of the query but those of pages.
    path           text        NOT NULL,
    kind           text        NOT NULL,
    -- True is a request that may change something at GitHub.
    mutation       boolean     NOT NULL,
    outcome        text        NOT NULL CHECK (outcome IN ('done', 'failed', 'unknown')),
    status         bigint,
    error          text,
    duration_ms    bigint,
    attempt        bigint      NOT NULL,
    bytes_out      bigint      NOT NULL,
    rate_remaining bigint,
    request_id     text,
    correlation    text
);

CREATE INDEX github_calls_of_team ON github_calls (team_id, id);
CREATE INDEX github_calls_by_time ON github_calls (at);
