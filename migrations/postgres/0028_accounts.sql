-- People. One without an account at GitHub signs in by links that an admin makes. Logins are given to others after a rename:
-- a person is known by the number.
CREATE TABLE users (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    github_id   bigint      UNIQUE,
    login       text,
    name        text,
    avatar_url  text,
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz
);

CREATE INDEX users_by_login ON users (lower(login));

CREATE TABLE team_members (
    team_id           bigint      NOT NULL REFERENCES teams (id),
    user_id           bigint      NOT NULL REFERENCES users (id),
    role              text        NOT NULL CHECK (role IN ('viewer', 'member', 'admin')),
    source            text        NOT NULL CHECK (source IN ('invitation', 'rule', 'operator')),
    -- The last answer of GitHub about the rules. NULL asks again at the next occasion.
    github_checked_at timestamptz,
    created_at        timestamptz NOT NULL,
    PRIMARY KEY (team_id, user_id)
);

CREATE INDEX team_members_by_user ON team_members (user_id);

-- The members of an organisation at GitHub, or of one of its teams, are members of the team.
CREATE TABLE team_rules (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team_id       bigint NOT NULL REFERENCES teams (id),
    github_org_id bigint,
    github_org    text   NOT NULL,
    github_team   text,
    role          text   NOT NULL CHECK (role IN ('viewer', 'member', 'admin'))
);

CREATE UNIQUE INDEX team_rules_once ON team_rules (team_id, lower(github_org), lower(coalesce(github_team, '')));

-- Invitations to a team, and links that sign a person in once. Without a team it is a link alone.
CREATE TABLE invitations (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team_id      bigint      REFERENCES teams (id),
    -- Of the link's secret, which is shown once and never stored.
    token_hash   bytea       NOT NULL UNIQUE,
    role         text        CHECK (role IN ('viewer', 'member', 'admin')),
    github_login text,
    user_id      bigint      REFERENCES users (id),
    signs_in     boolean     NOT NULL DEFAULT false,
    invited_by   bigint      REFERENCES users (id),
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    used_by      bigint      REFERENCES users (id),
    CHECK ((team_id IS NULL) = (role IS NULL)),
    CHECK (NOT signs_in OR user_id IS NOT NULL)
);

CREATE INDEX invitations_by_team ON invitations (team_id);

-- A name of a token is unique within its team: one team does not learn of the names of another.
ALTER TABLE api_tokens DROP CONSTRAINT api_tokens_name_key;
ALTER TABLE api_tokens
    ADD CONSTRAINT api_tokens_name_of_team UNIQUE (team_id, name),
    -- Of the person who made it, and without whose membership it has no force.
    ADD COLUMN created_by bigint REFERENCES users (id);

-- A session is of a token or of a person.
ALTER TABLE sessions
    ALTER COLUMN token_sha256 DROP NOT NULL,
    ADD COLUMN user_id bigint REFERENCES users (id),
    -- The team that its holder chose, of several.
    ADD COLUMN team_id bigint REFERENCES teams (id),
    ADD CONSTRAINT session_of_token_or_person CHECK ((token_sha256 IS NULL) <> (user_id IS NULL));

CREATE INDEX sessions_by_user ON sessions (user_id);

-- The team for which a ticket opens a socket. Those that are there are of half a minute.
DELETE FROM ws_tickets;
ALTER TABLE ws_tickets ADD COLUMN team_id bigint NOT NULL REFERENCES teams (id);
