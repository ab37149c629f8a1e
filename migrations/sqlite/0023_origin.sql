-- The origin of a pull request and the parts that bots have in it: of the numbers, and computed with them.
-- human, assisted, agent or automation; NULL is unknown.
ALTER TABLE pull_requests ADD COLUMN origin TEXT;
ALTER TABLE pull_requests ADD COLUMN origin_certainty TEXT;
-- Login of the person for whom an agent opened it.
ALTER TABLE pull_requests ADD COLUMN opened_by TEXT;
ALTER TABLE pull_requests ADD COLUMN reviewed_by_requester INTEGER;
ALTER TABLE pull_requests ADD COLUMN first_bot_response_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN first_ai_review_at INTEGER;

-- Aggregates read these alone: now with both clocks, the origin and the key, by which a value is traced to its pull request.
DROP INDEX pull_requests_merged;
DROP INDEX pull_requests_merged_by_repository;
DROP INDEX pull_requests_closed;
CREATE INDEX pull_requests_merged ON pull_requests (merged_at, state, author_is_bot, flags, cycle_time_s, review_time_s,
    coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s,
    business_cycle_time_s, business_review_time_s, business_coding_s, business_pickup_s, business_review_s,
    business_merge_wait_s, business_redraft_s, business_closed_s, calendar_hash, origin, repo_id, number) WHERE state = 'merged';
CREATE INDEX pull_requests_merged_by_repository ON pull_requests (repo_id, merged_at, state, author_is_bot, flags,
    cycle_time_s, review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s,
    business_cycle_time_s, business_review_time_s, business_coding_s, business_pickup_s, business_review_s,
    business_merge_wait_s, business_redraft_s, business_closed_s, calendar_hash, origin, number)
    WHERE state = 'merged';
CREATE INDEX pull_requests_closed ON pull_requests (closed_at, state, repo_id, author_is_bot, origin)
    WHERE state = 'closed';

-- The open ones by how long they wait, with all that totals of them need.
CREATE INDEX pull_requests_waiting ON pull_requests (waiting_since, repo_id, number, waiting_for, waiting_rule,
    first_review_at, author_is_bot, origin, base_ref, state) WHERE state = 'open';

-- Open review requests, of which there are few: those that were made long ago count as load, too.
CREATE INDEX review_pairs_open ON review_pairs (kind, asked_at) WHERE outcome = 'open';
