-- Durations in business time, under the calendar of the repository when they were computed: of the numbers, and computed
-- with them. NULL without a calendar.
ALTER TABLE pull_requests
    ADD COLUMN business_cycle_time_s  bigint,
    ADD COLUMN business_review_time_s bigint,
    ADD COLUMN business_coding_s      bigint,
    ADD COLUMN business_pickup_s      bigint,
    ADD COLUMN business_review_s      bigint,
    ADD COLUMN business_merge_wait_s  bigint,
    ADD COLUMN business_redraft_s     bigint,
    ADD COLUMN business_closed_s      bigint,
    ADD COLUMN calendar               text COLLATE "C",
    ADD COLUMN calendar_zone          text COLLATE "C",
    -- Of the calendar's zone, week and dates. Another one in the settings asks for `tallyhook recompute`.
    ADD COLUMN calendar_hash          text COLLATE "C";

-- All that aggregates need, with both clocks.
DROP INDEX pull_requests_merged;
CREATE INDEX pull_requests_merged ON pull_requests (merged_at) INCLUDE (author_is_bot, flags, cycle_time_s,
    review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s,
    business_cycle_time_s, business_review_time_s, business_coding_s, business_pickup_s, business_review_s,
    business_merge_wait_s, business_redraft_s, business_closed_s, calendar_hash) WHERE state = 'merged';
DROP INDEX pull_requests_merged_by_repository;
CREATE INDEX pull_requests_merged_by_repository ON pull_requests (repo_id, merged_at) INCLUDE (author_is_bot, flags,
    cycle_time_s, review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s,
    business_cycle_time_s, business_review_time_s, business_coding_s, business_pickup_s, business_review_s,
    business_merge_wait_s, business_redraft_s, business_closed_s, calendar_hash) WHERE state = 'merged';
