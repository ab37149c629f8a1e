-- Whoever is told of events, and how far that has come.
CREATE TABLE channels (
    name          TEXT    NOT NULL PRIMARY KEY,
    -- The last event that was looked at; each after it will be.
    place         INTEGER NOT NULL,
    -- Nothing is sent before, in milliseconds.
    rests_until   INTEGER,
    -- Since something was taken there.
    failures      INTEGER NOT NULL DEFAULT 0,
    last_error    TEXT,
    last_error_at INTEGER
) STRICT, WITHOUT ROWID;

-- What a channel is told. It lives as long as its event.
CREATE TABLE notifications (
    event_id        INTEGER NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    channel         TEXT    NOT NULL,
    -- Of two about the same the later one makes the earlier one old.
    subject         TEXT    NOT NULL,
    state           TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead', 'superseded')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    taken_up_at     INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    -- What came of the last attempt.
    answer          TEXT,
    finished_at     INTEGER,
    PRIMARY KEY (event_id, channel)
) STRICT, WITHOUT ROWID;

CREATE INDEX notifications_pending ON notifications (channel, event_id) WHERE state = 'pending';
-- Whether something newer about the same was sent.
CREATE INDEX notifications_sent ON notifications (channel, subject, event_id) WHERE state = 'sent';
-- What was given up, as it is listed.
CREATE INDEX notifications_dead ON notifications (event_id DESC, channel) WHERE state = 'dead';
