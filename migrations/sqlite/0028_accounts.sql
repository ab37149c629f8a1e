-- People. One without an account at GitHub signs in by links that an admin makes. Logins are given to others after a rename:
-- a person is known by the number.
CREATE TABLE users (
    -- Never given twice: tokens, invitations and the audit name people by it.
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    github_id   INTEGER UNIQUE,
    login       TEXT,
    name        TEXT,
    avatar_url  TEXT,
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT;

CREATE INDEX users_by_login ON users (lower(login));

CREATE TABLE team_members (
    team_id           INTEGER NOT NULL REFERENCES teams (id),
    user_id           INTEGER NOT NULL REFERENCES users (id),
    role              TEXT    NOT NULL CHECK (role IN ('viewer', 'member', 'admin')),
    source            TEXT    NOT NULL CHECK (source IN ('invitation', 'rule', 'operator')),
    -- The last answer of GitHub about the rules. NULL asks again at the next occasion.
    github_checked_at INTEGER,
    created_at        INTEGER NOT NULL,
    PRIMARY KEY (team_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX team_members_by_user ON team_members (user_id);

-- The members of an organisation at GitHub, or of one of its teams, are members of the team.
CREATE TABLE team_rules (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id       INTEGER NOT NULL REFERENCES teams (id),
    github_org_id INTEGER,
    github_org    TEXT    NOT NULL,
    github_team   TEXT,
    role          TEXT    NOT NULL CHECK (role IN ('viewer', 'member', 'admin'))
) STRICT;

CREATE UNIQUE INDEX team_rules_once ON team_rules (team_id, lower(github_org), lower(coalesce(github_team, '')));

-- Invitations to a team, and links that sign a person in once. Without a team it is a link alone.
CREATE TABLE invitations (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    team_id      INTEGER REFERENCES teams (id),
    -- Of the link's secret, which is shown once and never stored.
    token_hash   BLOB    NOT NULL UNIQUE,
    role         TEXT    CHECK (role IN ('viewer', 'member', 'admin')),
    github_login TEXT,
    user_id      INTEGER REFERENCES users (id),
    signs_in     INTEGER NOT NULL DEFAULT 0,
    invited_by   INTEGER REFERENCES users (id),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    used_at      INTEGER,
    used_by      INTEGER REFERENCES users (id),
    CHECK ((team_id IS NULL) = (role IS NULL)),
    CHECK (signs_in = 0 OR user_id IS NOT NULL)
) STRICT;

CREATE INDEX invitations_by_team ON invitations (team_id);

-- A name of a token is unique within its team: one team does not learn of the names of another. A column that is UNIQUE by
-- itself cannot be dropped, so the table is made again.
CREATE TABLE new_api_tokens (
    id           INTEGER PRIMARY KEY,
    team_id      INTEGER NOT NULL DEFAULT 1 REFERENCES teams (id),
    name         TEXT    NOT NULL,
    -- Of the token, which is shown once and never stored.
    sha256       BLOB    NOT NULL UNIQUE,
    role         TEXT    NOT NULL DEFAULT 'admin' CHECK (role IN ('viewer', 'member', 'admin', 'operator')),
    login        TEXT,
    -- Of the person who made it, and without whose membership it has no force.
    created_by   INTEGER REFERENCES users (id),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER,
    UNIQUE (team_id, name)
) STRICT;

INSERT INTO new_api_tokens (id, team_id, name, sha256, role, login, created_at, expires_at, last_used_at, revoked_at)
SELECT id, team_id, name, sha256, role, login, created_at, expires_at, last_used_at, revoked_at FROM api_tokens;

DROP TABLE api_tokens;
ALTER TABLE new_api_tokens RENAME TO api_tokens;

-- A session is of a token or of a person.
CREATE TABLE new_sessions (
    -- Never given twice: people end a session by it.
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Of the cookie's value, which is never stored.
    sha256       BLOB    NOT NULL UNIQUE,
    -- Of the token. The one of the settings is in no table.
    token_sha256 BLOB,
    user_id      INTEGER REFERENCES users (id),
    -- The team that its holder chose, of several.
    team_id      INTEGER REFERENCES teams (id),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    agent        TEXT,
    CHECK ((token_sha256 IS NULL) <> (user_id IS NULL))
) STRICT;

INSERT INTO new_sessions (id, sha256, token_sha256, created_at, last_used_at, expires_at, agent)
SELECT id, sha256, token_sha256, created_at, last_used_at, expires_at, agent FROM sessions;

DELETE FROM sqlite_sequence WHERE name = 'new_sessions';
INSERT INTO sqlite_sequence (name, seq) SELECT 'new_sessions', seq FROM sqlite_sequence WHERE name = 'sessions';

DROP TABLE sessions;
ALTER TABLE new_sessions RENAME TO sessions;
CREATE INDEX sessions_by_token ON sessions (token_sha256);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- The team for which a ticket opens a socket. Those that are there are of half a minute.
DROP TABLE ws_tickets;
CREATE TABLE ws_tickets (
    -- Of the ticket, in hexadecimal.
    sha256       TEXT    NOT NULL PRIMARY KEY,
    team_id      INTEGER NOT NULL REFERENCES teams (id),
    expires_at   INTEGER NOT NULL,
    -- Of the token or session that asked for it, in hexadecimal.
    token_sha256 TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
