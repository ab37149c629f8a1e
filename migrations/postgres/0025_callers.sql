-- The rights of a token and its end. The tokens that are there could do everything, and go on doing so: the one of the first
-- start, which is named `admin`, as the operator's, the others as those of an admin.
ALTER TABLE api_tokens
    ADD COLUMN role text NOT NULL DEFAULT 'admin' CHECK (role IN ('viewer', 'member', 'admin', 'operator')),
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN last_used_at timestamptz;

UPDATE api_tokens SET role = 'operator' WHERE name = 'admin';

-- Browsers that signed in with a token.
CREATE TABLE sessions (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Of the cookie's value, which is never stored.
    sha256       bytea       NOT NULL UNIQUE,
    -- Of the token. The one of the settings is in no table.
    token_sha256 bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    agent        text
);

CREATE INDEX sessions_by_token ON sessions (token_sha256);
