-- Marks of the latest snapshot, where its payload was beyond GitHub's bounds; null for nearly all.
ALTER TABLE pull_requests ADD COLUMN marks TEXT;

-- Merged, but at a time that no payload had and that can be: left out of aggregates, and counted there.
CREATE INDEX pull_requests_undated_merges ON pull_requests (repo_id, updated_at, author_is_bot)
    WHERE state = 'merged' AND merged_at IS NULL;
