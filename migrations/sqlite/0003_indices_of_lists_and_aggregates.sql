-- Newest update first, which is how they are listed and paged, of one state at a time: of all repositories, of one, and
-- of an author.
DROP INDEX pull_requests_by_update;
CREATE INDEX pull_requests_by_state ON pull_requests (state, updated_at, repo_id, number);
CREATE INDEX pull_requests_by_repository ON pull_requests (repo_id, state, updated_at, number);
CREATE INDEX pull_requests_by_author ON pull_requests
    (lower(substr(author_login, 1, 100)), state, updated_at, repo_id, number);

-- All that aggregates need, in the order in which they need it, so that the rows themselves are not
-- read. The state is among it, since SQLite looks at it again.
DROP INDEX pull_requests_by_merge;
CREATE INDEX pull_requests_merged ON pull_requests (merged_at, state, author_is_bot, flags, cycle_time_s, review_time_s,
    coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s) WHERE state = 'merged';
CREATE INDEX pull_requests_merged_by_repository ON pull_requests (repo_id, merged_at, state, author_is_bot, flags,
    cycle_time_s, review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s)
    WHERE state = 'merged';
CREATE INDEX pull_requests_closed ON pull_requests (closed_at, state, repo_id, author_is_bot) WHERE state = 'closed';
