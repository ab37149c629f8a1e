-- Credentials of people and teams at GitHub. Tokens are sealed by a key that is not in the database: 0x01, eight bytes of the
-- key's id, nonce, ciphertext and tag. What is sealed opens in its own row, column and owner only.
CREATE TABLE github_credentials (
    id                 TEXT    PRIMARY KEY,
    owner_kind         TEXT    NOT NULL CHECK (owner_kind IN ('user', 'team')),
    owner_id           INTEGER NOT NULL,
    kind               TEXT    NOT NULL CHECK (kind IN ('oauth', 'app_user', 'pat')),
    github_user_id     INTEGER NOT NULL,
    login              TEXT    NOT NULL,
    -- NULL once it is revoked, or its key is lost for good.
    access_token       BLOB,
    refresh_token      BLOB,
    access_expires_at  INTEGER,
    refresh_expires_at INTEGER,
    -- JSON: lists of texts.
    scopes             TEXT    NOT NULL,
    missing            TEXT    NOT NULL,
    last4              TEXT    NOT NULL,
    state              TEXT    NOT NULL CHECK (state IN ('active', 'limited', 'reconnect_needed', 'revoked')),
    state_reason       TEXT,
    -- Counts the tokens that there have been: each replaces the one before.
    generation         INTEGER NOT NULL DEFAULT 1,
    -- A process is asking for the next tokens until then; in the past, one of which the answer is not known.
    refresh_until      INTEGER,
    created_at         INTEGER NOT NULL,
    used_at            INTEGER,
    UNIQUE (owner_kind, owner_id, kind, github_user_id)
) STRICT;

-- A team may use a credential.
CREATE TABLE github_connections (
    id            TEXT    PRIMARY KEY,
    team_id       INTEGER NOT NULL REFERENCES teams (id),
    credential_id TEXT    NOT NULL REFERENCES github_credentials (id),
    created_by    INTEGER REFERENCES users (id),
    created_at    INTEGER NOT NULL,
    ended_at      INTEGER
) STRICT;

CREATE UNIQUE INDEX github_connections_in_use ON github_connections (team_id, credential_id) WHERE ended_at IS NULL;
CREATE INDEX github_connections_by_credential ON github_connections (credential_id);

-- The App that was made from the manifest: one at most.
CREATE TABLE github_apps (
    id         TEXT    PRIMARY KEY CHECK (id = 'app'),
    app_id     INTEGER NOT NULL,
    slug       TEXT    NOT NULL,
    client_id  TEXT    NOT NULL,
    html_url   TEXT    NOT NULL,
    -- JSON of client secret, webhook secret and private key, sealed.
    secrets    BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Ways to GitHub and back that a browser has begun.
CREATE TABLE github_flows (
    -- SHA-256 of the state, hexadecimal.
    state_hash   TEXT    PRIMARY KEY,
    purpose      TEXT    NOT NULL CHECK (purpose IN ('sign_in', 'connect', 'install', 'manifest')),
    -- SHA-256 of the browser's cookie, hexadecimal.
    browser_hash TEXT    NOT NULL,
    user_id      INTEGER REFERENCES users (id),
    team_id      INTEGER REFERENCES teams (id),
    -- Of PKCE, sealed.
    verifier     BLOB,
    return_to    TEXT,
    created_at   INTEGER NOT NULL,
    -- It stays for a day after that, so that its browser can be shown the reason.
    expires_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX github_flows_by_expiry ON github_flows (expires_at);

-- Tokens that GitHub is to revoke.
CREATE TABLE revocations (
    id              TEXT    PRIMARY KEY,
    owner_kind      TEXT    NOT NULL CHECK (owner_kind IN ('user', 'team')),
    owner_id        INTEGER NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('oauth', 'app_user', 'pat')),
    login           TEXT    NOT NULL,
    -- Sealed; NULL once it is done or given up.
    token           BLOB,
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL,
    last_error      TEXT,
    created_at      INTEGER NOT NULL,
    done_at         INTEGER
) STRICT;

CREATE INDEX revocations_open ON revocations (next_attempt_at) WHERE done_at IS NULL;
