-- JSON: the accounts and teams that are asked for a review, as of the update at which a payload listed them.
ALTER TABLE pull_requests ADD COLUMN requested_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN requested TEXT;
-- JSON: kind, id and seconds of the first payload that listed each reviewer.
ALTER TABLE pull_requests ADD COLUMN first_requested TEXT;
-- JSON: the author's rights, auto-merge, the merge commit and the assignees.
ALTER TABLE pull_requests ADD COLUMN details_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN details TEXT;
-- JSON: how GitHub sees the merge of an open pull request, as of an answer of its API.
ALTER TABLE pull_requests ADD COLUMN merge_state_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN merge_state TEXT;
-- The author dates of the commits and the committer dates, apart.
ALTER TABLE pull_requests ADD COLUMN first_authored_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN last_authored_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN first_committed_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN last_committed_at INTEGER;
-- JSON: the addresses of co-authors that the commits name.
ALTER TABLE pull_requests ADD COLUMN co_authors TEXT;

-- Requests for reviews that were stored without the kind of the reviewer: GitHub is asked for open ones again.
ALTER TABLE pull_requests ADD COLUMN has_partial_requests INTEGER NOT NULL DEFAULT 0;

UPDATE pull_requests SET has_partial_requests = 1
WHERE state = 'open' AND is_open AND (instr(timeline, '"review_request') > 0 OR EXISTS (
    SELECT 1 FROM timeline_segments s
    WHERE s.repo_id = pull_requests.repo_id AND s.number = pull_requests.number
    AND instr(s.timeline, '"review_request') > 0));

CREATE INDEX pull_requests_with_partial_requests ON pull_requests (repo_id, number) WHERE has_partial_requests AND is_open;

-- The commits of a fetched pull request, where they were asked for.
CREATE TABLE commits (
    repo_id      INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    sha          TEXT    NOT NULL,
    -- The update of the pull request as of which it has the commit. An older list is deleted.
    listed_at    INTEGER NOT NULL,
    -- Null for an author without an account.
    author_id    INTEGER,
    author_login TEXT,
    author_type  TEXT,
    authored_at  INTEGER,
    committed_at INTEGER,
    PRIMARY KEY (repo_id, number, sha)
) STRICT, WITHOUT ROWID;
