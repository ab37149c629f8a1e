-- Teams see their own data: what a team owns carries team_id in every unique key, and facts are visible through
-- team_repositories. Rows that are there belong to the team that there was.

-- Everything was of the team that there was.
INSERT INTO team_repositories (team_id, repo_id) SELECT 1, id FROM repositories WHERE true ON CONFLICT DO NOTHING;

-- A team stops tracking a repository by itself; the repository is tracked while any of its teams does so.
ALTER TABLE team_repositories ADD COLUMN tracked boolean NOT NULL DEFAULT true;
UPDATE team_repositories SET tracked = r.tracked FROM repositories r WHERE r.id = repo_id;
CREATE INDEX team_repositories_by_repository ON team_repositories (repo_id, team_id);

-- The installations of a GitHub App that a member of a team has proved to have access to.
CREATE TABLE team_installations (
    team_id         bigint      NOT NULL REFERENCES teams (id),
    installation_id bigint      NOT NULL,
    -- Login of the user or organisation that it is on.
    account         text        NOT NULL,
    -- The user whose token listed it; NULL for the operator.
    verified_by     bigint,
    verified_at     timestamptz NOT NULL,
    PRIMARY KEY (team_id, installation_id)
);

CREATE INDEX team_installations_by_id ON team_installations (installation_id, team_id);

-- A repository that is seen for the first time is of the teams that claimed its installation; without a claim of the only team
-- there is, or of none. Later sights change nothing, so that the operator's decision stands.
CREATE FUNCTION place_repository() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO team_repositories (team_id, repo_id, tracked)
    SELECT team_id, NEW.id, NEW.tracked FROM team_installations WHERE installation_id = NEW.installation_id
    UNION ALL
    SELECT id, NEW.id, NEW.tracked FROM teams WHERE (SELECT count(*) FROM teams) = 1 AND NOT EXISTS (
        SELECT 1 FROM team_installations WHERE installation_id = NEW.installation_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER repositories_placed AFTER INSERT ON repositories
    FOR EACH ROW EXECUTE FUNCTION place_repository();

ALTER TABLE task_links DROP CONSTRAINT task_links_task_id_fkey;
ALTER TABLE task_history DROP CONSTRAINT task_history_task_id_fkey;
ALTER TABLE tasks DROP CONSTRAINT tasks_pkey;
ALTER TABLE tasks DROP CONSTRAINT tasks_task_key_key;
ALTER TABLE tasks ALTER COLUMN team_id DROP DEFAULT;
ALTER TABLE tasks ADD PRIMARY KEY (team_id, id);
ALTER TABLE tasks ADD UNIQUE (team_id, task_key);
DROP INDEX tasks_by_age;
CREATE INDEX tasks_by_age ON tasks (team_id, created_at, id);
CREATE INDEX tasks_by_key ON tasks (task_key, team_id) WHERE task_key IS NOT NULL;

ALTER TABLE task_links ADD COLUMN team_id bigint;
UPDATE task_links SET team_id = t.team_id FROM tasks t WHERE t.id = task_id;
ALTER TABLE task_links ALTER COLUMN team_id SET NOT NULL;
ALTER TABLE task_links DROP CONSTRAINT task_links_pkey;
ALTER TABLE task_links ADD PRIMARY KEY (team_id, task_id, repo_id, number);
ALTER TABLE task_links ADD FOREIGN KEY (team_id, task_id) REFERENCES tasks (team_id, id);

ALTER TABLE task_history ADD COLUMN team_id bigint;
UPDATE task_history SET team_id = t.team_id FROM tasks t WHERE t.id = task_id;
ALTER TABLE task_history ALTER COLUMN team_id SET NOT NULL;
ALTER TABLE task_history ADD FOREIGN KEY (team_id, task_id) REFERENCES tasks (team_id, id);
DROP INDEX task_history_by_task;
CREATE INDEX task_history_by_task ON task_history (team_id, task_id, id);

ALTER TABLE channels ADD COLUMN team_id bigint NOT NULL DEFAULT 1 REFERENCES teams (id);
ALTER TABLE channels ALTER COLUMN team_id DROP DEFAULT;
ALTER TABLE channels DROP CONSTRAINT channels_pkey;
ALTER TABLE channels ADD PRIMARY KEY (team_id, name);

-- Events about pull requests are facts of their repositories. Those of tasks and digests are of one team.
ALTER TABLE outbox ADD COLUMN team_id bigint REFERENCES teams (id);
-- JSON, of an event about a pull request: the oldest task of it in each team that has one, [[team_id, task_id], ...].
ALTER TABLE outbox ADD COLUMN tasks text;
UPDATE outbox SET team_id = 1 WHERE kind IN ('task_status_change', 'worktree_kept', 'digest');
UPDATE outbox SET tasks = json_build_array(json_build_array(1, task_id))::text, task_id = NULL
WHERE kind IN ('pr_status_change', 'waiting_change') AND task_id IS NOT NULL;

ALTER TABLE notifications ADD COLUMN team_id bigint NOT NULL DEFAULT 1 REFERENCES teams (id);
ALTER TABLE notifications ALTER COLUMN team_id DROP DEFAULT;
-- The event first: that is how the notifications of an old one are deleted with it.
ALTER TABLE notifications DROP CONSTRAINT notifications_pkey;
ALTER TABLE notifications ADD PRIMARY KEY (event_id, team_id, channel);
DROP INDEX notifications_pending;
DROP INDEX notifications_sent;
DROP INDEX notifications_pending_by_subject;
DROP INDEX notifications_dead;
CREATE INDEX notifications_pending ON notifications (team_id, channel, event_id) WHERE state = 'pending';
CREATE INDEX notifications_sent ON notifications (team_id, channel, subject, event_id) WHERE state = 'sent';
CREATE INDEX notifications_pending_by_subject ON notifications (team_id, channel, subject, event_id)
    WHERE state = 'pending';
CREATE INDEX notifications_dead ON notifications (team_id, event_id DESC, channel) WHERE state = 'dead';

ALTER TABLE monitors ADD COLUMN team_id bigint NOT NULL DEFAULT 1 REFERENCES teams (id);
ALTER TABLE monitors ALTER COLUMN team_id DROP DEFAULT;
ALTER TABLE monitors DROP CONSTRAINT monitors_pkey;
ALTER TABLE monitors ADD PRIMARY KEY (team_id, repo_key, number);
CREATE INDEX monitors_by_pull_request ON monitors (repo_key, number);

-- The team whose change it is; NULL where the repository says which teams see it, and for what operators alone see.
ALTER TABLE changes ADD COLUMN team_id bigint;

-- Its argument is the kind, of a row of a team.
CREATE FUNCTION note_change_of_team() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (at, kind, team_id) VALUES (clock_timestamp(), TG_ARGV[0], NEW.team_id);
    RETURN NULL;
END
$$;

-- The same for a row of a team about a repository.
CREATE FUNCTION note_change_of_team_repository() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO changes (at, kind, repo_id, team_id)
        VALUES (clock_timestamp(), TG_ARGV[0], OLD.repo_id, OLD.team_id);
    ELSE
        INSERT INTO changes (at, kind, repo_id, team_id)
        VALUES (clock_timestamp(), TG_ARGV[0], NEW.repo_id, NEW.team_id);
    END IF;
    RETURN NULL;
END
$$;

-- One for each repository, since its teams alone may learn of it.
CREATE FUNCTION note_installation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (at, kind, repo_id)
    SELECT clock_timestamp(), 'repo', id FROM repositories WHERE installation_id = NEW.id;
    RETURN NULL;
END
$$;

-- The repository is the team's no longer.
CREATE FUNCTION note_lost_repository() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (at, kind, team_id) VALUES (clock_timestamp(), 'repo', OLD.team_id);
    RETURN NULL;
END
$$;

DROP TRIGGER tasks_added ON tasks;
DROP TRIGGER tasks_changed ON tasks;
DROP TRIGGER task_links_changed ON task_links;
DROP TRIGGER channels_changed ON channels;
DROP TRIGGER notifications_changed ON notifications;
DROP TRIGGER installations_changed ON installations;
DROP FUNCTION note_change();
CREATE TRIGGER tasks_added AFTER INSERT ON tasks
    FOR EACH ROW EXECUTE FUNCTION note_change_of_team('task');
CREATE TRIGGER tasks_changed AFTER UPDATE OF status, title, repo_name, branch, worktree ON tasks
    FOR EACH ROW WHEN ((NEW.status, NEW.title, NEW.repo_name, NEW.branch, NEW.worktree)
        IS DISTINCT FROM (OLD.status, OLD.title, OLD.repo_name, OLD.branch, OLD.worktree))
    EXECUTE FUNCTION note_change_of_team('task');
CREATE TRIGGER task_links_changed AFTER INSERT OR DELETE ON task_links
    FOR EACH ROW EXECUTE FUNCTION note_change_of_team_repository('task');
CREATE TRIGGER channels_changed AFTER UPDATE OF failures, rests_until, last_error_at ON channels
    FOR EACH ROW WHEN ((NEW.failures, NEW.rests_until, NEW.last_error_at)
        IS DISTINCT FROM (OLD.failures, OLD.rests_until, OLD.last_error_at))
    EXECUTE FUNCTION note_change_of_team('channel');
CREATE TRIGGER notifications_changed AFTER INSERT OR UPDATE OF state, attempts ON notifications
    FOR EACH ROW EXECUTE FUNCTION note_change_of_team('notification');
CREATE TRIGGER installations_changed AFTER UPDATE OF access ON installations
    FOR EACH ROW WHEN (NEW.access <> OLD.access) EXECUTE FUNCTION note_installation();
CREATE TRIGGER team_repositories_added AFTER INSERT ON team_repositories
    FOR EACH ROW EXECUTE FUNCTION note_change_of_team_repository('repo');
CREATE TRIGGER team_repositories_changed AFTER UPDATE OF tracked ON team_repositories
    FOR EACH ROW WHEN (NEW.tracked <> OLD.tracked) EXECUTE FUNCTION note_change_of_team_repository('repo');
CREATE TRIGGER team_repositories_deleted AFTER DELETE ON team_repositories
    FOR EACH ROW EXECUTE FUNCTION note_lost_repository();

-- The report views, as before and with the team.
DROP VIEW tallyhook_report.backfills;
DROP VIEW tallyhook_report.review_pairs;
DROP VIEW tallyhook_report.reviews;
DROP VIEW tallyhook_report.waiting_on;
DROP VIEW tallyhook_report.waiting;
DROP VIEW tallyhook_report.flags;
DROP VIEW tallyhook_report.stages;
DROP VIEW tallyhook_report.pull_requests;
DROP VIEW tallyhook_report.repositories;
DROP VIEW tallyhook_report.about;

CREATE VIEW tallyhook_report.about AS
SELECT 1::bigint AS version, name AS team FROM teams;

-- The one place that says which repositories are shown: the other views show these alone. One that several teams see has a row
-- for each of them, here and in every other view.
CREATE VIEW tallyhook_report.repositories AS
SELECT r.id AS repo_id, r.name AS repo,
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' ELSE r.access END AS repo_access,
    r.private, t.tracked, r.tracked_since, r.sync_status, r.last_sync_at, r.last_error, r.last_delivery_at,
    r.complete_since, r.missed_by_webhook,
    CASE
        WHEN NOT t.tracked THEN NULL
        WHEN r.access <> 'granted' OR coalesce(i.access = 'revoked', false) THEN 'access'
        WHEN r.last_error IS NOT NULL THEN 'error'
        WHEN r.complete_since IS NULL THEN 'backfill'
    END AS missing,
    n.name AS team
FROM repositories r
JOIN team_repositories t ON t.repo_id = r.id
JOIN teams n ON n.id = t.team_id
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
    p.source, p.definition, r.team
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
    s.stage, s.place, s.hours, s.business_hours, p.team
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
    p.merged_at, p.merged_day, p.merged_week, p.merged_month, f.flag, p.team
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
    w.waiting_rule AS rule, w.held_by, p.draft, p.team
FROM tallyhook_report.pull_requests p
-- Without the offset the planner would look for the other pull request wherever these are named.
CROSS JOIN LATERAL (SELECT p.waiting_for, p.waiting_rule, p.held_by OFFSET 0) w
WHERE p.state = 'open' AND p.waiting_since IS NOT NULL;

CREATE VIEW tallyhook_report.waiting_on AS
SELECT w.repo_id, p.repo, w.number, p.authors,
    CASE w.kind WHEN 'team' THEN 'team' ELSE 'person' END AS kind, w.name, w.since,
    extract(epoch FROM now() - w.since)::numeric / 3600 AS waited_hours, p.team
FROM waiting_parties w
JOIN tallyhook_report.pull_requests p ON p.repo_id = w.repo_id AND p.number = w.number
WHERE p.held_by IS NULL;

CREATE VIEW tallyhook_report.reviews AS
SELECT v.repo_id, r.repo, v.number, v.github_review_id, v.reviewer_login AS reviewer,
    v.reviewer_type = 'Bot' OR right(v.reviewer_login, 5) = '[bot]' AS reviewer_is_bot,
    coalesce(v.reviewer_id = p.author_id, false) AS reviewer_is_author,
    CASE WHEN v.dismissed OR v.original_state IS NULL THEN 'dismissed' ELSE v.original_state END AS state,
    v.original_state, v.submitted_at, v.dismissed_at, r.team
FROM reviews v
JOIN tallyhook_report.repositories r ON r.repo_id = v.repo_id
JOIN pull_requests p ON p.repo_id = v.repo_id AND p.number = v.number AND p.state IS NOT NULL;

CREATE VIEW tallyhook_report.review_pairs AS
SELECT a.repo_id, r.repo, a.number, CASE a.kind WHEN 'team' THEN 'team' ELSE 'person' END AS kind, a.name, a.k,
    a.asked_at, a.outcome, a.ended_at, a.response_review_at, a.response_any_at,
    CASE WHEN a.outcome = 'answered' AND a.response_review_at >= a.asked_at
        THEN extract(epoch FROM a.response_review_at - a.asked_at)::numeric / 3600 END AS response_hours, r.team
FROM review_pairs a
JOIN tallyhook_report.repositories r ON r.repo_id = a.repo_id;

CREATE VIEW tallyhook_report.backfills AS
SELECT s.id AS sync_run, s.repo_id, r.repo, s.state, s.asked_at AS requested_at, s.started_at, s.finished_at,
    s.prs_done, s.prs_total, jsonb_array_length(s.errors::jsonb)::bigint AS prs_failed, s.reviews_synced,
    s.github_requests, s.complete_since, s.error, r.team
FROM sync_runs s
JOIN tallyhook_report.repositories r ON r.repo_id = s.repo_id;
