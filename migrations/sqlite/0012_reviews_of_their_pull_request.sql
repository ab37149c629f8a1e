-- A review belongs to its pull request: an event of another one with the same id must not overwrite it. The primary key
-- leads with the pull request, so that the index by pull request is not needed besides.
CREATE TABLE reviews_of_pull_requests (
    github_review_id INTEGER NOT NULL,
    repo_id          INTEGER NOT NULL,
    number           INTEGER NOT NULL,
    reviewer_id      INTEGER NOT NULL,
    reviewer_login   TEXT    NOT NULL,
    reviewer_type    TEXT    NOT NULL,
    original_state   TEXT CHECK (original_state IN ('approved', 'changes_requested', 'commented')),
    submitted_at     INTEGER NOT NULL,
    commit_id        TEXT,
    dismissed        INTEGER NOT NULL,
    dismissed_at     INTEGER,
    PRIMARY KEY (repo_id, number, github_review_id)
) STRICT, WITHOUT ROWID;

INSERT INTO reviews_of_pull_requests
SELECT github_review_id, repo_id, number, reviewer_id, reviewer_login, reviewer_type, original_state, submitted_at,
    commit_id, dismissed, dismissed_at FROM reviews ORDER BY repo_id, number, github_review_id;

DROP TABLE reviews;
ALTER TABLE reviews_of_pull_requests RENAME TO reviews;
