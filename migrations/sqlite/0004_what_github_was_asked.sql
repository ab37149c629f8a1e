-- As of when the dates of the commits are known, up to when GitHub's own timeline is, and as of when it was longer than
-- what was fetched.
ALTER TABLE pull_requests ADD COLUMN commits_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN whole_until INTEGER;
ALTER TABLE pull_requests ADD COLUMN truncated_at INTEGER;
