-- Whoever is told of events, and how far that has come.
CREATE TABLE channels (
    name          text        NOT NULL COLLATE "C" PRIMARY KEY,
    -- The last event that was looked at; each after it will be.
    place         bigint      NOT NULL,
    -- Nothing is sent before.
    rests_until   timestamptz,
    -- Since something was taken there.
    failures      bigint      NOT NULL DEFAULT 0,
    last_error    text,
    last_error_at timestamptz
);

-- What a channel is told. It lives as long as its event.
CREATE TABLE notifications (
    event_id        bigint      NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    channel         text        NOT NULL COLLATE "C",
    -- Of two about the same the later one makes the earlier one old.
    subject         text        NOT NULL COLLATE "C",
    state           text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead', 'superseded')),
    attempts        bigint      NOT NULL DEFAULT 0,
    taken_up_at     timestamptz NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    -- What came of the last attempt.
    answer          text,
    finished_at     timestamptz,
    PRIMARY KEY (event_id, channel)
);

CREATE INDEX notifications_pending ON notifications (channel, event_id) WHERE state = 'pending';
-- Whether something newer about the same was sent.
CREATE INDEX notifications_sent ON notifications (channel, subject, event_id) WHERE state = 'sent';
-- What was given up, as it is listed.
CREATE INDEX notifications_dead ON notifications (event_id DESC, channel) WHERE state = 'dead';
