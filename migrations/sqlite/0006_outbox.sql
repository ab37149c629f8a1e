-- What somebody is told of, in the order in which it was committed; written with the facts that it is about.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY,
    repo_id     INTEGER NOT NULL,
    repo_name   TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    old_status  TEXT CHECK (old_status IN ('OPEN', 'CLOSED', 'MERGED')),
    new_status  TEXT    NOT NULL CHECK (new_status IN ('OPEN', 'CLOSED', 'MERGED')),
    -- On GitHub, in seconds.
    happened_at INTEGER NOT NULL,
    sync_source TEXT    NOT NULL CHECK (sync_source IN ('webhook', 'worker', 'monitor')),
    -- By our own clock, in milliseconds.
    recorded_at INTEGER NOT NULL,
    -- A change is told once, whoever brings it.
    UNIQUE (repo_id, number, new_status, happened_at)
) STRICT;

-- What opens a WebSocket once.
CREATE TABLE ws_tickets (
    -- Of the ticket, in hexadecimal.
    sha256     TEXT    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
