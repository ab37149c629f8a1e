-- Durations in business time, under the calendar of the repository when they were computed: of the numbers, and computed
-- with them. NULL without a calendar.
ALTER TABLE pull_requests ADD COLUMN business_cycle_time_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN business_review_time_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN business_coding_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN business_pickup_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN business_review_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN business_merge_wait_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN business_redraft_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN business_closed_s INTEGER;
ALTER TABLE pull_requests ADD COLUMN calendar TEXT;
ALTER TABLE pull_requests ADD COLUMN calendar_zone TEXT;
-- Of the calendar's zone, week and dates. Another one in the settings asks for `tallyhook recompute`.
ALTER TABLE pull_requests ADD COLUMN calendar_hash TEXT;
