-- What an open pull request waits for, and whose turn it was for how long: part of the numbers, computed from the facts.
-- NULL where it is not open, or was not computed by this version yet.
ALTER TABLE pull_requests ADD COLUMN waiting_for TEXT;
-- Since when the one that waits longest is waited for, and since when it waits for this kind.
ALTER TABLE pull_requests ADD COLUMN waiting_since INTEGER;
ALTER TABLE pull_requests ADD COLUMN waiting_kind_since INTEGER;
ALTER TABLE pull_requests ADD COLUMN waiting_rule INTEGER;
-- JSON: {"who", "because", "also", "since_is_latest"}
ALTER TABLE pull_requests ADD COLUMN waiting TEXT;
-- The turn that has not ended, and its beginning; NULL once the pull request is merged.
ALTER TABLE pull_requests ADD COLUMN turn TEXT;
ALTER TABLE pull_requests ADD COLUMN turn_since INTEGER;
-- JSON: the seconds of each kind of turn up to turn_since, or to the end.
ALTER TABLE pull_requests ADD COLUMN time_by TEXT;
-- True if turns rest on pushes that were not seen.
ALTER TABLE pull_requests ADD COLUMN turns_inferred INTEGER;
-- Of the rows of the two tables below, so that a write leaves those alone that did not change.
ALTER TABLE pull_requests ADD COLUMN parties_hash INTEGER;

-- The people and teams that open pull requests wait for now.
CREATE TABLE waiting_parties (
    repo_id  INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    -- The place in the list, from 0.
    place    INTEGER NOT NULL,
    kind     TEXT    NOT NULL CHECK (kind IN ('account', 'team')),
    -- GitHub's; NULL for a team of the settings.
    party_id INTEGER,
    -- Login or slug.
    name     TEXT    NOT NULL,
    since    INTEGER NOT NULL,
    PRIMARY KEY (repo_id, number, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX waiting_parties_by_name ON waiting_parties (kind, lower(name), repo_id, number);

-- Review requests with their answers.
CREATE TABLE review_pairs (
    repo_id            INTEGER NOT NULL,
    number             INTEGER NOT NULL,
    place              INTEGER NOT NULL,
    kind               TEXT    NOT NULL CHECK (kind IN ('account', 'team')),
    party_id           INTEGER,
    name               TEXT    NOT NULL,
    -- 1 for the first request to this party, then 2, 3 and so on.
    k                  INTEGER NOT NULL,
    asked_at           INTEGER NOT NULL,
    -- answered, withdrawn, ended or open
    outcome            TEXT    NOT NULL,
    ended_at           INTEGER,
    response_review_at INTEGER,
    response_any_at    INTEGER,
    PRIMARY KEY (repo_id, number, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX review_pairs_by_request ON review_pairs (asked_at);

-- The heads of the open ones: one that is the base of another holds it up.
CREATE INDEX pull_requests_open_heads ON pull_requests (repo_id, head_ref, head_repo_id, number, state)
    WHERE state = 'open';

-- Numbers of an earlier definition, which are computed again in the background. Writes of this version add nothing to it.
CREATE INDEX pull_requests_outdated ON pull_requests (repo_id, number) WHERE definition < 2;

-- The account that "me" means to the holder of a token.
ALTER TABLE api_tokens ADD COLUMN login TEXT;
