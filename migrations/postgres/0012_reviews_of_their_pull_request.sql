-- A review belongs to its pull request: an event of another one with the same id must not overwrite it. The primary key
-- leads with the pull request, so that the index by pull request is not needed besides.
ALTER TABLE reviews DROP CONSTRAINT reviews_pkey, ADD PRIMARY KEY (repo_id, number, github_review_id);
DROP INDEX reviews_by_pull_request;
