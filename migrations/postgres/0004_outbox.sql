-- What somebody is told of, in the order in which it was committed; written with the facts that it is about.
CREATE TABLE outbox (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repo_id     bigint      NOT NULL,
    repo_name   text        NOT NULL COLLATE "C",
    number      bigint      NOT NULL,
    old_status  text CHECK (old_status IN ('OPEN', 'CLOSED', 'MERGED')),
    new_status  text        NOT NULL COLLATE "C" CHECK (new_status IN ('OPEN', 'CLOSED', 'MERGED')),
    -- On GitHub.
    happened_at timestamptz NOT NULL,
    sync_source text        NOT NULL CHECK (sync_source IN ('webhook', 'worker', 'monitor')),
    -- By our own clock.
    recorded_at timestamptz NOT NULL,
    -- A change is told once, whoever brings it.
    UNIQUE (repo_id, number, new_status, happened_at)
);

-- What opens a WebSocket once.
CREATE TABLE ws_tickets (
    -- Of the ticket, in hexadecimal.
    sha256     text        NOT NULL COLLATE "C" PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
