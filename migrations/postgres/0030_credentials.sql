-- Credentials of people and teams at GitHub. Tokens are sealed by a key that is not in the database: 0x01, eight bytes of the
-- key's id, nonce, ciphertext and tag. What is sealed opens in its own row, column and owner only.
CREATE TABLE github_credentials (
    id                 text        COLLATE "C" PRIMARY KEY,
    owner_kind         text        NOT NULL CHECK (owner_kind IN ('user', 'team')),
    owner_id           bigint      NOT NULL,
    kind               text        NOT NULL CHECK (kind IN ('oauth', 'app_user', 'pat')),
    github_user_id     bigint      NOT NULL,
    login              text        NOT NULL,
    -- NULL once it is revoked, or its key is lost for good.
    access_token       bytea,
    refresh_token      bytea,
    access_expires_at  timestamptz,
    refresh_expires_at timestamptz,
    -- JSON: lists of texts.
    scopes             text        NOT NULL,
    missing            text        NOT NULL,
    last4              text        NOT NULL,
    state              text        NOT NULL CHECK (state IN ('active', 'limited', 'reconnect_needed', 'revoked')),
    state_reason       text,
    -- Counts the tokens that there have been: each replaces the one before.
    generation         bigint      NOT NULL DEFAULT 1,
    -- A process is asking for the next tokens until then; in the past, one of which the answer is not known.
    refresh_until      timestamptz,
    created_at         timestamptz NOT NULL,
    used_at            timestamptz,
    UNIQUE (owner_kind, owner_id, kind, github_user_id)
);

-- A team may use a credential.
CREATE TABLE github_connections (
    id            text        COLLATE "C" PRIMARY KEY,
    team_id       bigint      NOT NULL REFERENCES teams (id),
    credential_id text        COLLATE "C" NOT NULL REFERENCES github_credentials (id),
    created_by    bigint      REFERENCES users (id),
    created_at    timestamptz NOT NULL,
    ended_at      timestamptz
);

CREATE UNIQUE INDEX github_connections_in_use ON github_connections (team_id, credential_id) WHERE ended_at IS NULL;
CREATE INDEX github_connections_by_credential ON github_connections (credential_id);

-- The App that was made from the manifest: one at most.
CREATE TABLE github_apps (
    id         text        COLLATE "C" PRIMARY KEY CHECK (id = 'app'),
    app_id     bigint      NOT NULL,
    slug       text        NOT NULL,
    client_id  text        NOT NULL,
    html_url   text        NOT NULL,
    -- JSON of client secret, webhook secret and private key, sealed.
    secrets    bytea       NOT NULL,
    created_at timestamptz NOT NULL
);

-- Ways to GitHub and back that a browser has begun.
CREATE TABLE github_flows (
    -- SHA-256 of the state, hexadecimal.
    state_hash   text        COLLATE "C" PRIMARY KEY,
    purpose      text        NOT NULL CHECK (purpose IN ('sign_in', 'connect', 'install', 'manifest')),
    -- SHA-256 of the browser's cookie, hexadecimal.
    browser_hash text        NOT NULL,
    user_id      bigint      REFERENCES users (id),
    team_id      bigint      REFERENCES teams (id),
    -- Of PKCE, sealed.
    verifier     bytea,
    return_to    text,
    created_at   timestamptz NOT NULL,
    -- It stays for a day after that, so that its browser can be shown the reason.
    expires_at   timestamptz NOT NULL
);

CREATE INDEX github_flows_by_expiry ON github_flows (expires_at);

-- Tokens that GitHub is to revoke.
CREATE TABLE revocations (
    id              text        COLLATE "C" PRIMARY KEY,
    owner_kind      text        NOT NULL CHECK (owner_kind IN ('user', 'team')),
    owner_id        bigint      NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('oauth', 'app_user', 'pat')),
    login           text        NOT NULL,
    -- Sealed; NULL once it is done or given up.
    token           bytea,
    attempts        bigint      NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    last_error      text,
    created_at      timestamptz NOT NULL,
    done_at         timestamptz
);

CREATE INDEX revocations_open ON revocations (next_attempt_at) WHERE done_at IS NULL;
