-- What an open pull request waits for, and whose turn it was for how long: part of the numbers, computed from the facts.
-- NULL where it is not open, or was not computed by this version yet.
ALTER TABLE pull_requests
    ADD COLUMN waiting_for        text COLLATE "C",
    -- Since when the one that waits longest is waited for, and since when it waits for this kind.
    ADD COLUMN waiting_since      timestamptz,
    ADD COLUMN waiting_kind_since timestamptz,
    ADD COLUMN waiting_rule       bigint,
    -- {"who", "because", "also", "since_is_latest"}
    ADD COLUMN waiting            jsonb,
    -- The turn that has not ended, and its beginning; NULL once the pull request is merged.
    ADD COLUMN turn               text COLLATE "C",
    ADD COLUMN turn_since         timestamptz,
    -- The seconds of each kind of turn up to turn_since, or to the end.
    ADD COLUMN time_by            jsonb,
    -- True if turns rest on pushes that were not seen.
    ADD COLUMN turns_inferred     boolean,
    -- Of the rows of the two tables below, so that a write leaves those alone that did not change.
    ADD COLUMN parties_hash       bigint;

-- The people and teams that open pull requests wait for now.
CREATE TABLE waiting_parties (
    repo_id  bigint      NOT NULL,
    number   bigint      NOT NULL,
    -- The place in the list, from 0.
    place    bigint      NOT NULL,
    kind     text        NOT NULL COLLATE "C" CHECK (kind IN ('account', 'team')),
    -- GitHub's; NULL for a team of the settings.
    party_id bigint,
    -- Login or slug.
    name     text        NOT NULL COLLATE "C",
    since    timestamptz NOT NULL,
    PRIMARY KEY (repo_id, number, place)
);

CREATE INDEX waiting_parties_by_name ON waiting_parties (kind, lower(name), repo_id, number);

-- Review requests with their answers.
CREATE TABLE review_pairs (
    repo_id            bigint      NOT NULL,
    number             bigint      NOT NULL,
    place              bigint      NOT NULL,
    kind               text        NOT NULL COLLATE "C" CHECK (kind IN ('account', 'team')),
    party_id           bigint,
    name               text        NOT NULL COLLATE "C",
    -- 1 for the first request to this party, then 2, 3 and so on.
    k                  bigint      NOT NULL,
    asked_at           timestamptz NOT NULL,
    -- answered, withdrawn, ended or open
    outcome            text        NOT NULL COLLATE "C",
    ended_at           timestamptz,
    response_review_at timestamptz,
    response_any_at    timestamptz,
    PRIMARY KEY (repo_id, number, place)
);

CREATE INDEX review_pairs_by_request ON review_pairs (asked_at);

-- The heads of the open ones: one that is the base of another holds it up.
CREATE INDEX pull_requests_open_heads ON pull_requests (repo_id, head_ref, head_repo_id, number) WHERE state = 'open';

-- Numbers of an earlier definition, which are computed again in the background. Writes of this version add nothing to it.
CREATE INDEX pull_requests_outdated ON pull_requests (repo_id, number) WHERE definition < 2;

-- The account that "me" means to the holder of a token.
ALTER TABLE api_tokens ADD COLUMN login text;
