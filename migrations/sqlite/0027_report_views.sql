-- Views for readers of SQL, with the columns and meanings of PostgreSQL's schema tallyhook_report: docs/guides/report-views.md
-- describes every column. Times are RFC 3339 text, which sorts by time, lists are JSON text, hours are real numbers.

CREATE VIEW report_about AS
SELECT 1 AS version, name AS team FROM teams WHERE id = 1;

-- The one place that says whose repositories are shown: the other views show these alone.
CREATE VIEW report_repositories AS
SELECT r.id AS repo_id, r.name AS repo,
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' ELSE r.access END AS repo_access,
    r.private, r.tracked,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.tracked_since / 1000.0, 'unixepoch') AS tracked_since, r.sync_status,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.last_sync_at / 1000.0, 'unixepoch') AS last_sync_at, r.last_error,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.last_delivery_at / 1000.0, 'unixepoch') AS last_delivery_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.complete_since, 'unixepoch') AS complete_since, r.missed_by_webhook,
    CASE
        WHEN NOT r.tracked THEN NULL
        WHEN r.access <> 'granted' OR coalesce(i.access = 'revoked', false) THEN 'access'
        WHEN r.last_error IS NOT NULL THEN 'error'
        WHEN r.complete_since IS NULL THEN 'backfill'
    END AS missing
FROM repositories r
JOIN team_repositories t ON t.repo_id = r.id AND t.team_id = 1
LEFT JOIN installations i ON i.id = r.installation_id;

CREATE VIEW report_pull_requests AS
SELECT p.repo_id, r.repo, p.number, p.pr_id, p.github_pr_id, p.title,
    p.author_login AS author, p.author_is_bot,
    CASE WHEN p.origin = 'agent' THEN 'agent' WHEN p.author_is_bot THEN 'automation' ELSE 'human' END AS authors,
    p.origin, p.origin_certainty, p.opened_by, p.reviewed_by_requester,
    p.state, p.draft, p.base_ref, p.head_ref, p.head_sha, p.labels,
    p.additions, p.deletions, p.changed_files, p.commits,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.pr_created_at, 'unixepoch') AS pr_created_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.updated_at, 'unixepoch') AS updated_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.closed_at, 'unixepoch') AS closed_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.merged_at, 'unixepoch') AS merged_at,
    date(p.merged_at, 'unixepoch') AS merged_day,
    date(p.merged_at, 'unixepoch', '-6 days', 'weekday 1') AS merged_week,
    date(p.merged_at, 'unixepoch', 'start of month') AS merged_month,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.first_commit_at, 'unixepoch') AS first_commit_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.ready_at, 'unixepoch') AS ready_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.first_response_at, 'unixepoch') AS first_response_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.first_review_at, 'unixepoch') AS first_review_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.final_approval_at, 'unixepoch') AS final_approval_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.first_bot_response_at, 'unixepoch') AS first_bot_response_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.first_ai_review_at, 'unixepoch') AS first_ai_review_at,
    p.cycle_time_s / 3600.0 AS cycle_time_hours,
    p.review_time_s / 3600.0 AS review_time_hours,
    p.coding_s / 3600.0 AS coding_hours,
    p.pickup_s / 3600.0 AS pickup_hours,
    p.review_s / 3600.0 AS review_hours,
    p.merge_wait_s / 3600.0 AS merge_wait_hours,
    p.redraft_s / 3600.0 AS redraft_hours,
    p.closed_s / 3600.0 AS closed_hours,
    p.business_cycle_time_s / 3600.0 AS cycle_time_business_hours,
    p.business_review_time_s / 3600.0 AS review_time_business_hours,
    p.business_coding_s / 3600.0 AS coding_business_hours,
    p.business_pickup_s / 3600.0 AS pickup_business_hours,
    p.business_review_s / 3600.0 AS review_business_hours,
    p.business_merge_wait_s / 3600.0 AS merge_wait_business_hours,
    p.business_redraft_s / 3600.0 AS redraft_business_hours,
    p.business_closed_s / 3600.0 AS closed_business_hours,
    p.calendar, p.calendar_zone, p.flags,
    p.state = 'merged' AND p.merged_at IS NOT NULL AND NOT p.misdated
        AND NOT EXISTS (SELECT 1 FROM json_each(p.flags) WHERE value = 'merged_as_draft')
        AND NOT EXISTS (SELECT 1 FROM json_each(p.flags) WHERE value = 'stub') AS countable,
    p.state = 'merged' AND p.merged_at IS NOT NULL AND NOT p.author_is_bot AND coalesce(p.origin, '') <> 'agent'
        AND NOT p.misdated
        AND NOT EXISTS (SELECT 1 FROM json_each(p.flags) WHERE value = 'merged_as_draft')
        AND NOT EXISTS (SELECT 1 FROM json_each(p.flags) WHERE value = 'stub') AS counted,
    CASE
        WHEN p.state <> 'merged' THEN NULL
        WHEN p.merged_at IS NULL THEN 'clock_skew'
        WHEN p.author_is_bot THEN 'bot_author'
        WHEN p.origin = 'agent' THEN 'agent_author'
        WHEN p.misdated THEN 'clock_skew'
        WHEN EXISTS (SELECT 1 FROM json_each(p.flags) WHERE value = 'merged_as_draft') THEN 'merged_as_draft'
        WHEN EXISTS (SELECT 1 FROM json_each(p.flags) WHERE value = 'stub') THEN 'stub'
    END AS excluded,
    CASE WHEN p.held_by IS NOT NULL THEN 'base_pr' ELSE p.waiting_for END AS waiting_for,
    CASE WHEN p.held_by IS NOT NULL THEN 10 ELSE p.waiting_rule END AS waiting_rule,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.waiting_since, 'unixepoch') AS waiting_since,
    strftime('%Y-%m-%dT%H:%M:%SZ', p.waiting_kind_since, 'unixepoch') AS waiting_kind_since, p.held_by,
    p.source, p.definition
FROM (
    SELECT p.*,
        -- A flag alone can be about the commits: one with a duration counts.
        (p.cycle_time_s IS NULL AND EXISTS (SELECT 1 FROM json_each(p.flags) WHERE value = 'clock_skew'))
            OR coalesce(p.cycle_time_s, 0) < 0 OR coalesce(p.review_time_s, 0) < 0 OR coalesce(p.coding_s, 0) < 0
            OR coalesce(p.pickup_s, 0) < 0 OR coalesce(p.review_s, 0) < 0 OR coalesce(p.merge_wait_s, 0) < 0
            OR coalesce(p.redraft_s, 0) < 0 OR coalesce(p.closed_s, 0) < 0 AS misdated,
        -- An approved one whose base is the head of another open one waits for that.
        CASE WHEN p.waiting_rule IN (11, 12) THEN (
            SELECT min(b.number) FROM pull_requests b WHERE b.state = 'open'
            AND b.repo_id = p.repo_id AND b.head_ref = p.base_ref AND b.head_repo_id = p.repo_id
            AND b.number <> p.number) END AS held_by
    FROM pull_requests p WHERE p.state IS NOT NULL
) p
JOIN report_repositories r ON r.repo_id = p.repo_id;

CREATE VIEW report_stages AS
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'coding' AS stage, 1 AS place, coding_hours AS hours, coding_business_hours AS business_hours
FROM report_pull_requests WHERE state = 'merged' AND coding_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'pickup' AS stage, 2 AS place, pickup_hours AS hours, pickup_business_hours AS business_hours
FROM report_pull_requests WHERE state = 'merged' AND pickup_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'review' AS stage, 3 AS place, review_hours AS hours, review_business_hours AS business_hours
FROM report_pull_requests WHERE state = 'merged' AND review_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'merge_wait' AS stage, 4 AS place, merge_wait_hours AS hours, merge_wait_business_hours AS business_hours
FROM report_pull_requests WHERE state = 'merged' AND merge_wait_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'redraft' AS stage, 5 AS place, redraft_hours AS hours, redraft_business_hours AS business_hours
FROM report_pull_requests WHERE state = 'merged' AND redraft_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'closed' AS stage, 6 AS place, closed_hours AS hours, closed_business_hours AS business_hours
FROM report_pull_requests WHERE state = 'merged' AND closed_hours IS NOT NULL;

CREATE VIEW report_flags AS
SELECT p.repo_id, p.repo, p.number, p.authors, p.countable, p.counted, p.state,
    p.merged_at, p.merged_day, p.merged_week, p.merged_month, f.value AS flag
FROM report_pull_requests p, json_each(p.flags) f;

-- Those of which it is not computed yet, or cannot be, are left out, as in /api/waiting.
CREATE VIEW report_waiting AS
SELECT p.repo_id, p.repo, p.number, p.title, p.author, p.authors, p.pr_created_at,
    p.waiting_for,
    CASE
        WHEN p.waiting_for = 'reviewers' AND p.first_review_at IS NOT NULL THEN 'another_look'
        WHEN p.waiting_for = 'reviewers' THEN 'first_review'
        WHEN p.waiting_for = 'nobody' THEN 'nobody_asked'
        WHEN p.waiting_for = 'base_pr' THEN 'base_pr'
        WHEN p.waiting_for = 'merge_queue' THEN 'queued'
        WHEN p.waiting_for = 'ci' THEN 'checks'
        WHEN p.waiting_rule = 1 THEN 'draft'
        WHEN p.waiting_rule = 3 THEN 'left_queue'
        WHEN p.waiting_rule = 4 THEN 'conflict'
        WHEN p.waiting_rule = 5 THEN 'changes_requested'
        WHEN p.waiting_rule = 6 THEN 'check_failed'
        WHEN p.waiting_rule = 8 THEN 'comments'
        ELSE 'merge'
    END AS reason,
    p.waiting_since AS since, p.waiting_kind_since AS kind_since,
    (unixepoch() - unixepoch(p.waiting_since)) / 3600.0 AS waited_hours,
    p.waiting_rule AS rule, p.held_by, p.draft
FROM report_pull_requests p
WHERE p.state = 'open' AND p.waiting_since IS NOT NULL;

CREATE VIEW report_waiting_on AS
SELECT w.repo_id, p.repo, w.number, p.authors,
    CASE w.kind WHEN 'team' THEN 'team' ELSE 'person' END AS kind, w.name,
    strftime('%Y-%m-%dT%H:%M:%SZ', w.since, 'unixepoch') AS since,
    (unixepoch() - w.since) / 3600.0 AS waited_hours
FROM waiting_parties w
JOIN report_pull_requests p ON p.repo_id = w.repo_id AND p.number = w.number
WHERE p.held_by IS NULL;

CREATE VIEW report_reviews AS
SELECT v.repo_id, r.repo, v.number, v.github_review_id, v.reviewer_login AS reviewer,
    v.reviewer_type = 'Bot' OR substr(v.reviewer_login, -5) = '[bot]' AS reviewer_is_bot,
    coalesce(v.reviewer_id = p.author_id, 0) AS reviewer_is_author,
    CASE WHEN v.dismissed OR v.original_state IS NULL THEN 'dismissed' ELSE v.original_state END AS state,
    v.original_state,
    strftime('%Y-%m-%dT%H:%M:%SZ', v.submitted_at, 'unixepoch') AS submitted_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', v.dismissed_at, 'unixepoch') AS dismissed_at
FROM reviews v
JOIN report_repositories r ON r.repo_id = v.repo_id
JOIN pull_requests p ON p.repo_id = v.repo_id AND p.number = v.number AND p.state IS NOT NULL;

CREATE VIEW report_review_pairs AS
SELECT a.repo_id, r.repo, a.number, CASE a.kind WHEN 'team' THEN 'team' ELSE 'person' END AS kind, a.name, a.k,
    strftime('%Y-%m-%dT%H:%M:%SZ', a.asked_at, 'unixepoch') AS asked_at, a.outcome,
    strftime('%Y-%m-%dT%H:%M:%SZ', a.ended_at, 'unixepoch') AS ended_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', a.response_review_at, 'unixepoch') AS response_review_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', a.response_any_at, 'unixepoch') AS response_any_at,
    CASE WHEN a.outcome = 'answered' AND a.response_review_at >= a.asked_at
        THEN (a.response_review_at - a.asked_at) / 3600.0 END AS response_hours
FROM review_pairs a
JOIN report_repositories r ON r.repo_id = a.repo_id;

CREATE VIEW report_backfills AS
SELECT s.id AS sync_run, s.repo_id, r.repo, s.state,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.asked_at / 1000.0, 'unixepoch') AS requested_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.started_at / 1000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.finished_at / 1000.0, 'unixepoch') AS finished_at,
    s.prs_done, s.prs_total, json_array_length(s.errors) AS prs_failed, s.reviews_synced,
    s.github_requests,
    strftime('%Y-%m-%dT%H:%M:%SZ', s.complete_since, 'unixepoch') AS complete_since, s.error
FROM sync_runs s
JOIN report_repositories r ON r.repo_id = s.repo_id;
