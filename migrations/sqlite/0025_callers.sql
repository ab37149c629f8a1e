-- The rights of a token and its end. The tokens that are there could do everything, and go on doing so: the one of the first
-- start, which is named `admin`, as the operator's, the others as those of an admin.
ALTER TABLE api_tokens ADD COLUMN role TEXT NOT NULL DEFAULT 'admin'
    CHECK (role IN ('viewer', 'member', 'admin', 'operator'));
ALTER TABLE api_tokens ADD COLUMN expires_at INTEGER;
ALTER TABLE api_tokens ADD COLUMN last_used_at INTEGER;

UPDATE api_tokens SET role = 'operator' WHERE name = 'admin';

-- Browsers that signed in with a token.
CREATE TABLE sessions (
    -- Never given twice: people end a session by it.
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Of the cookie's value, which is never stored.
    sha256       BLOB    NOT NULL UNIQUE,
    -- Of the token. The one of the settings is in no table.
    token_sha256 BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    agent        TEXT
) STRICT;

CREATE INDEX sessions_by_token ON sessions (token_sha256);
