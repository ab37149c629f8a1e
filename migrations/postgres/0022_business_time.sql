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
