-- The tokens that GitHub issued to its App within the last hour, since people signed in. With too many of one person GitHub ends
-- the oldest, which may be a connection's.
CREATE TABLE sign_ins (
    user_id      bigint      NOT NULL REFERENCES users (id),
    -- SHA-256 of the browser's cookie, hexadecimal.
    browser_hash text        NOT NULL,
    at           timestamptz NOT NULL
);

CREATE INDEX sign_ins_by_time ON sign_ins (at);
