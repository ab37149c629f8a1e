-- Views for readers of SQL, in a schema of their own: docs/guides/report-views.md describes every column. Columns are only
-- added, at the end; a change of a meaning raises the version. A migration that changes a column beneath them drops the views
-- first and creates them again.

-- An administrator may have created it for a user who may create none.
DO $$
BEGIN
    IF to_regnamespace('tallyhook_report') IS NULL THEN
        CREATE SCHEMA tallyhook_report;
    END IF;
END
$$;

CREATE VIEW tallyhook_report.about AS
SELECT 1::bigint AS version, name AS team FROM teams WHERE id = 1;

-- The one place that says whose repositories are shown: the other views show these alone.
CREATE VIEW tallyhook_report.repositories AS
SELECT r.id AS repo_id, r.name AS repo,
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' ELSE r.access END AS repo_access,
    r.private, r.tracked, r.tracked_since, r.sync_status, r.last_sync_at, r.last_error, r.last_delivery_at,
    r.complete_since, r.missed_by_webhook,
    CASE
        WHEN NOT r.tracked THEN NULL
        WHEN r.access <> 'granted' OR coalesce(i.access = 'revoked', false) THEN 'access'
        WHEN r.last_error IS NOT NULL THEN 'error'
        WHEN r.complete_since IS NULL THEN 'backfill'
    END AS missing
FROM repositories r
JOIN team_repositories t ON t.repo_id = r.id AND t.team_id = 1
LEFT JOIN installations i ON i.id = r.installation_id;

CREATE VIEW tallyhook_report.pull_requests AS
SELECT p.repo_id, r.repo, p.number, p.pr_id, p.github_pr_id, p.title,
    p.author_login AS author, p.author_is_bot,
    CASE WHEN p.origin = 'agent' THEN 'agent' WHEN p.author_is_bot THEN 'automation' ELSE 'human' END AS authors,
    p.origin, p.origin_certainty, p.opened_by, p.reviewed_by_requester,
    p.state, p.draft, p.base_ref, p.head_ref, p.head_sha, p.labels,
    p.additions, p.deletions, p.changed_files, p.commits,
    p.pr_created_at, p.updated_at, p.closed_at, p.merged_at,
    (p.merged_at AT TIME ZONE 'UTC')::date AS merged_day,
    date_trunc('week', p.merged_at AT TIME ZONE 'UTC')::date AS merged_week,
    date_trunc('month', p.merged_at AT TIME ZONE 'UTC')::date AS merged_month,
    p.first_commit_at, p.ready_at, p.first_response_at, p.first_review_at, p.final_approval_at,
    p.first_bot_response_at, p.first_ai_review_at,
    p.cycle_time_s::numeric / 3600 AS cycle_time_hours,
    p.review_time_s::numeric / 3600 AS review_time_hours,
    p.coding_s::numeric / 3600 AS coding_hours,
    p.pickup_s::numeric / 3600 AS pickup_hours,
    p.review_s::numeric / 3600 AS review_hours,
    p.merge_wait_s::numeric / 3600 AS merge_wait_hours,
    p.redraft_s::numeric / 3600 AS redraft_hours,
    p.closed_s::numeric / 3600 AS closed_hours,
    p.business_cycle_time_s::numeric / 3600 AS cycle_time_business_hours,
    p.business_review_time_s::numeric / 3600 AS review_time_business_hours,
    p.business_coding_s::numeric / 3600 AS coding_business_hours,
    p.business_pickup_s::numeric / 3600 AS pickup_business_hours,
    p.business_review_s::numeric / 3600 AS review_business_hours,
    p.business_merge_wait_s::numeric / 3600 AS merge_wait_business_hours,
    p.business_redraft_s::numeric / 3600 AS redraft_business_hours,
    p.business_closed_s::numeric / 3600 AS closed_business_hours,
    p.calendar, p.calendar_zone, p.flags,
    p.state = 'merged' AND p.merged_at IS NOT NULL
        AND NOT m.misdated AND NOT 'merged_as_draft' = ANY (p.flags) AND NOT 'stub' = ANY (p.flags) AS countable,
    p.state = 'merged' AND p.merged_at IS NOT NULL AND NOT p.author_is_bot AND coalesce(p.origin, '') <> 'agent'
        AND NOT m.misdated AND NOT 'merged_as_draft' = ANY (p.flags) AND NOT 'stub' = ANY (p.flags) AS counted,
    CASE
        WHEN p.state <> 'merged' THEN NULL
        WHEN p.merged_at IS NULL THEN 'clock_skew'
        WHEN p.author_is_bot THEN 'bot_author'
        WHEN p.origin = 'agent' THEN 'agent_author'
        WHEN m.misdated THEN 'clock_skew'
        WHEN 'merged_as_draft' = ANY (p.flags) THEN 'merged_as_draft'
        WHEN 'stub' = ANY (p.flags) THEN 'stub'
    END AS excluded,
    CASE WHEN h.held_by IS NOT NULL THEN 'base_pr' ELSE p.waiting_for END AS waiting_for,
    CASE WHEN h.held_by IS NOT NULL THEN 10 ELSE p.waiting_rule END AS waiting_rule,
    p.waiting_since, p.waiting_kind_since, h.held_by,
    p.source, p.definition
FROM pull_requests p
JOIN tallyhook_report.repositories r ON r.repo_id = p.repo_id
-- A flag alone can be about the commits: one with a duration counts.
CROSS JOIN LATERAL (SELECT (p.cycle_time_s IS NULL AND 'clock_skew' = ANY (p.flags))
    OR coalesce(p.cycle_time_s, 0) < 0 OR coalesce(p.review_time_s, 0) < 0 OR coalesce(p.coding_s, 0) < 0
    OR coalesce(p.pickup_s, 0) < 0 OR coalesce(p.review_s, 0) < 0 OR coalesce(p.merge_wait_s, 0) < 0
    OR coalesce(p.redraft_s, 0) < 0 OR coalesce(p.closed_s, 0) < 0 AS misdated) m
-- An approved one whose base is the head of another open one waits for that.
CROSS JOIN LATERAL (SELECT CASE WHEN p.waiting_rule IN (11, 12) THEN (
    SELECT min(b.number) FROM pull_requests b WHERE b.state = 'open'
    AND b.repo_id = p.repo_id AND b.head_ref = p.base_ref AND b.head_repo_id = p.repo_id
    AND b.number <> p.number) END AS held_by) h
WHERE p.state IS NOT NULL;

CREATE VIEW tallyhook_report.stages AS
SELECT p.repo_id, p.repo, p.number, p.authors, p.countable, p.counted,
    p.merged_at, p.merged_day, p.merged_week, p.merged_month,
    s.stage, s.place, s.hours, s.business_hours
FROM tallyhook_report.pull_requests p
CROSS JOIN LATERAL (VALUES
    ('coding', 1, p.coding_hours, p.coding_business_hours),
    ('pickup', 2, p.pickup_hours, p.pickup_business_hours),
    ('review', 3, p.review_hours, p.review_business_hours),
    ('merge_wait', 4, p.merge_wait_hours, p.merge_wait_business_hours),
    ('redraft', 5, p.redraft_hours, p.redraft_business_hours),
    ('closed', 6, p.closed_hours, p.closed_business_hours)
) AS s (stage, place, hours, business_hours)
WHERE p.state = 'merged' AND s.hours IS NOT NULL;

CREATE VIEW tallyhook_report.flags AS
SELECT p.repo_id, p.repo, p.number, p.authors, p.countable, p.counted, p.state,
    p.merged_at, p.merged_day, p.merged_week, p.merged_month, f.flag
FROM tallyhook_report.pull_requests p
CROSS JOIN LATERAL unnest(p.flags) AS f (flag);

-- Those of which it is not computed yet, or cannot be, are left out, as in /api/waiting.
CREATE VIEW tallyhook_report.waiting AS
SELECT p.repo_id, p.repo, p.number, p.title, p.author, p.authors, p.pr_created_at,
    w.waiting_for,
    CASE
        WHEN w.waiting_for = 'reviewers' AND p.first_review_at IS NOT NULL THEN 'another_look'
        WHEN w.waiting_for = 'reviewers' THEN 'first_review'
        WHEN w.waiting_for = 'nobody' THEN 'nobody_asked'
        WHEN w.waiting_for = 'base_pr' THEN 'base_pr'
        WHEN w.waiting_for = 'merge_queue' THEN 'queued'
        WHEN w.waiting_for = 'ci' THEN 'checks'
        WHEN w.waiting_rule = 1 THEN 'draft'
        WHEN w.waiting_rule = 3 THEN 'left_queue'
        WHEN w.waiting_rule = 4 THEN 'conflict'
        WHEN w.waiting_rule = 5 THEN 'changes_requested'
        WHEN w.waiting_rule = 6 THEN 'check_failed'
        WHEN w.waiting_rule = 8 THEN 'comments'
        ELSE 'merge'
    END AS reason,
    p.waiting_since AS since, p.waiting_kind_since AS kind_since,
    extract(epoch FROM now() - p.waiting_since)::numeric / 3600 AS waited_hours,
    w.waiting_rule AS rule, w.held_by, p.draft
FROM tallyhook_report.pull_requests p
-- Without the offset the planner would look for the other pull request wherever these are named.
CROSS JOIN LATERAL (SELECT p.waiting_for, p.waiting_rule, p.held_by OFFSET 0) w
WHERE p.state = 'open' AND p.waiting_since IS NOT NULL;

CREATE VIEW tallyhook_report.waiting_on AS
SELECT w.repo_id, p.repo, w.number, p.authors,
    CASE w.kind WHEN 'team' THEN 'team' ELSE 'person' END AS kind, w.name, w.since,
    extract(epoch FROM now() - w.since)::numeric / 3600 AS waited_hours
FROM waiting_parties w
JOIN tallyhook_report.pull_requests p ON p.repo_id = w.repo_id AND p.number = w.number
WHERE p.held_by IS NULL;

CREATE VIEW tallyhook_report.reviews AS
SELECT v.repo_id, r.repo, v.number, v.github_review_id, v.reviewer_login AS reviewer,
    v.reviewer_type = 'Bot' OR right(v.reviewer_login, 5) = '[bot]' AS reviewer_is_bot,
    coalesce(v.reviewer_id = p.author_id, false) AS reviewer_is_author,
    CASE WHEN v.dismissed OR v.original_state IS NULL THEN 'dismissed' ELSE v.original_state END AS state,
    v.original_state, v.submitted_at, v.dismissed_at
FROM reviews v
JOIN tallyhook_report.repositories r ON r.repo_id = v.repo_id
JOIN pull_requests p ON p.repo_id = v.repo_id AND p.number = v.number AND p.state IS NOT NULL;

CREATE VIEW tallyhook_report.review_pairs AS
SELECT a.repo_id, r.repo, a.number, CASE a.kind WHEN 'team' THEN 'team' ELSE 'person' END AS kind, a.name, a.k,
    a.asked_at, a.outcome, a.ended_at, a.response_review_at, a.response_any_at,
    CASE WHEN a.outcome = 'answered' AND a.response_review_at >= a.asked_at
        THEN extract(epoch FROM a.response_review_at - a.asked_at)::numeric / 3600 END AS response_hours
FROM review_pairs a
JOIN tallyhook_report.repositories r ON r.repo_id = a.repo_id;

CREATE VIEW tallyhook_report.backfills AS
SELECT s.id AS sync_run, s.repo_id, r.repo, s.state, s.asked_at AS requested_at, s.started_at, s.finished_at,
    s.prs_done, s.prs_total, jsonb_array_length(s.errors::jsonb)::bigint AS prs_failed, s.reviews_synced,
    s.github_requests, s.complete_since, s.error
FROM sync_runs s
JOIN tallyhook_report.repositories r ON r.repo_id = s.repo_id;
