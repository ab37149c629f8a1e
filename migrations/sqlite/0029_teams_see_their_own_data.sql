-- Teams see their own data: what a team owns carries team_id in every unique key, and facts are visible through
-- team_repositories. Rows that are there belong to the team that there was.

-- The views read tables that are written again; they come back at the end, with the team.
DROP VIEW report_backfills;
DROP VIEW report_review_pairs;
DROP VIEW report_reviews;
DROP VIEW report_waiting_on;
DROP VIEW report_waiting;
DROP VIEW report_flags;
DROP VIEW report_stages;
DROP VIEW report_pull_requests;
DROP VIEW report_repositories;
DROP VIEW report_about;

-- Everything was of the team that there was.
INSERT INTO team_repositories (team_id, repo_id) SELECT 1, id FROM repositories WHERE true ON CONFLICT DO NOTHING;

-- A team stops tracking a repository by itself; the repository is tracked while any of its teams does so.
ALTER TABLE team_repositories ADD COLUMN tracked INTEGER NOT NULL DEFAULT 1;
UPDATE team_repositories SET tracked = (SELECT tracked FROM repositories WHERE id = repo_id);
CREATE INDEX team_repositories_by_repository ON team_repositories (repo_id, team_id);

-- The installations of a GitHub App that a member of a team has proved to have access to.
CREATE TABLE team_installations (
    team_id         INTEGER NOT NULL REFERENCES teams (id),
    installation_id INTEGER NOT NULL,
    -- Login of the user or organisation that it is on.
    account         TEXT    NOT NULL,
    -- The user whose token listed it; NULL for the operator.
    verified_by     INTEGER,
    verified_at     INTEGER NOT NULL,
    PRIMARY KEY (team_id, installation_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX team_installations_by_id ON team_installations (installation_id, team_id);

-- A repository that is seen for the first time is of the teams that claimed its installation; without a claim of the only team
-- there is, or of none. Later sights change nothing, so that the operator's decision stands.
CREATE TRIGGER repositories_placed AFTER INSERT ON repositories BEGIN
    INSERT INTO team_repositories (team_id, repo_id, tracked)
    SELECT team_id, new.id, new.tracked FROM team_installations WHERE installation_id = new.installation_id
    UNION ALL
    SELECT id, new.id, new.tracked FROM teams WHERE (SELECT count(*) FROM teams) = 1 AND NOT EXISTS (
        SELECT 1 FROM team_installations WHERE installation_id = new.installation_id);
END;

-- A key or a primary key cannot be changed, so that the tables are written again, with those that refer to them.
CREATE TABLE tasks_of_teams (
    team_id        INTEGER NOT NULL REFERENCES teams (id),
    -- A UUID, as it is written.
    id             TEXT    NOT NULL,
    -- The key that people use, in capitals.
    task_key       TEXT,
    title          TEXT    NOT NULL,
    status         TEXT    NOT NULL CHECK (status IN ('TODO', 'IMPLEMENTING', 'CODE_REVIEWING', 'DONE', 'CANCELLED')),
    -- The last change of its status by a person, in seconds; NULL while there was none.
    said           TEXT,
    said_at        INTEGER,
    repo_name      TEXT,
    branch         TEXT,
    worktree       TEXT,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    -- Raised by every write and every mark; a writer that read an older one starts again.
    version        INTEGER NOT NULL DEFAULT 1,
    follow_due     INTEGER NOT NULL DEFAULT 1,
    push_due       INTEGER NOT NULL DEFAULT 0,
    cleanup_due    INTEGER NOT NULL DEFAULT 0,
    tries          INTEGER NOT NULL DEFAULT 0,
    not_before     INTEGER,
    initial_status TEXT,
    PRIMARY KEY (team_id, id),
    UNIQUE (team_id, task_key)
) STRICT;
CREATE TABLE task_links_of_teams (
    team_id   INTEGER NOT NULL,
    task_id   TEXT    NOT NULL,
    repo_id   INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (team_id, task_id, repo_id, number),
    FOREIGN KEY (team_id, task_id) REFERENCES tasks_of_teams (team_id, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE task_history_of_teams (
    id          INTEGER PRIMARY KEY,
    team_id     INTEGER NOT NULL,
    task_id     TEXT    NOT NULL,
    -- Of the cause, in seconds.
    happened_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    -- NULL for its creation.
    old_status  TEXT,
    new_status  TEXT    NOT NULL,
    cause       TEXT    NOT NULL,
    -- The pull request that is the cause.
    repo_id     INTEGER,
    number      INTEGER,
    note        TEXT,
    FOREIGN KEY (team_id, task_id) REFERENCES tasks_of_teams (team_id, id)
) STRICT;

INSERT INTO tasks_of_teams
SELECT team_id, id, task_key, title, status, said, said_at, repo_name, branch, worktree, created_at, updated_at, version,
    follow_due, push_due, cleanup_due, tries, not_before, initial_status
FROM tasks;
INSERT INTO task_links_of_teams
SELECT t.team_id, l.task_id, l.repo_id, l.number, l.linked_at FROM task_links l JOIN tasks t ON t.id = l.task_id;
INSERT INTO task_history_of_teams
SELECT h.id, t.team_id, h.task_id, h.happened_at, h.recorded_at, h.old_status, h.new_status, h.cause, h.repo_id, h.number, h.note
FROM task_history h JOIN tasks t ON t.id = h.task_id;
DROP TABLE task_history;
DROP TABLE task_links;
DROP TABLE tasks;
ALTER TABLE tasks_of_teams RENAME TO tasks;
ALTER TABLE task_links_of_teams RENAME TO task_links;
ALTER TABLE task_history_of_teams RENAME TO task_history;

CREATE INDEX tasks_by_age ON tasks (team_id, created_at, id);
CREATE INDEX tasks_by_key ON tasks (task_key, team_id) WHERE task_key IS NOT NULL;
CREATE INDEX tasks_follow_due ON tasks (id) WHERE follow_due = 1;
CREATE INDEX tasks_push_due ON tasks (id) WHERE push_due = 1;
CREATE INDEX tasks_cleanup_due ON tasks (id) WHERE cleanup_due = 1;
CREATE INDEX tasks_by_branch ON tasks (branch) WHERE branch IS NOT NULL;
CREATE INDEX task_links_by_pull_request ON task_links (repo_id, number);
CREATE INDEX task_history_by_task ON task_history (team_id, task_id, id);

CREATE TABLE channels_of_teams (
    team_id       INTEGER NOT NULL REFERENCES teams (id),
    name          TEXT    NOT NULL,
    -- The last event that was looked at; each later one still will be.
    place         INTEGER NOT NULL,
    -- Nothing is sent before, in milliseconds.
    rests_until   INTEGER,
    failures      INTEGER NOT NULL DEFAULT 0,
    last_error    TEXT,
    last_error_at INTEGER,
    -- The date, in the zone of the channel's calendar, of its last digest.
    digest_day    TEXT,
    PRIMARY KEY (team_id, name)
) STRICT, WITHOUT ROWID;
INSERT INTO channels_of_teams
SELECT 1, name, place, rests_until, failures, last_error, last_error_at, digest_day FROM channels;
DROP TABLE channels;
ALTER TABLE channels_of_teams RENAME TO channels;

-- Events about pull requests are facts of their repositories. Those of tasks and digests are of one team.
ALTER TABLE outbox ADD COLUMN team_id INTEGER REFERENCES teams (id);
-- JSON, of an event about a pull request: the oldest task of it in each team that has one, [[team_id, task_id], ...].
ALTER TABLE outbox ADD COLUMN tasks TEXT;
UPDATE outbox SET team_id = 1 WHERE kind IN ('task_status_change', 'worktree_kept', 'digest');
UPDATE outbox SET tasks = json_array(json_array(1, task_id)), task_id = NULL
WHERE kind IN ('pr_status_change', 'waiting_change') AND task_id IS NOT NULL;

CREATE TABLE notifications_of_teams (
    team_id         INTEGER NOT NULL REFERENCES teams (id),
    event_id        INTEGER NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    channel         TEXT    NOT NULL,
    -- A later one of the same subject makes the earlier one obsolete.
    subject         TEXT    NOT NULL,
    state           TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'dead', 'superseded')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    taken_up_at     INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    -- The result of the last attempt.
    answer          TEXT,
    finished_at     INTEGER,
    -- The end of the quiet hours in which it was not sent, in milliseconds.
    held_until      INTEGER,
    -- The event first: that is how the notifications of an old one are deleted with it.
    PRIMARY KEY (event_id, team_id, channel)
) STRICT, WITHOUT ROWID;
INSERT INTO notifications_of_teams
SELECT 1, event_id, channel, subject, state, attempts, taken_up_at, next_attempt_at, answer, finished_at, held_until
FROM notifications;
DROP TABLE notifications;
ALTER TABLE notifications_of_teams RENAME TO notifications;

CREATE INDEX notifications_pending ON notifications (team_id, channel, event_id) WHERE state = 'pending';
CREATE INDEX notifications_sent ON notifications (team_id, channel, subject, event_id) WHERE state = 'sent';
CREATE INDEX notifications_pending_by_subject ON notifications (team_id, channel, subject, event_id)
    WHERE state = 'pending';
CREATE INDEX notifications_dead ON notifications (team_id, event_id DESC, channel) WHERE state = 'dead';

CREATE TABLE monitors_of_teams (
    team_id    INTEGER NOT NULL REFERENCES teams (id),
    -- The name in lower case.
    repo_key   TEXT    NOT NULL,
    repo_name  TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    checked_at INTEGER,
    -- Since it last went well.
    failures   INTEGER NOT NULL DEFAULT 0,
    error      TEXT,
    PRIMARY KEY (team_id, repo_key, number)
) STRICT, WITHOUT ROWID;
INSERT INTO monitors_of_teams
SELECT 1, repo_key, repo_name, number, since, checked_at, failures, error FROM monitors;
DROP TABLE monitors;
ALTER TABLE monitors_of_teams RENAME TO monitors;
CREATE INDEX monitors_by_pull_request ON monitors (repo_key, number);

-- The team whose change it is; NULL where the repository says which teams see it, and for what operators alone see.
ALTER TABLE changes ADD COLUMN team_id INTEGER;

CREATE TRIGGER tasks_added AFTER INSERT ON tasks BEGIN
    INSERT INTO changes (at, kind, team_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task', new.team_id);
END;
CREATE TRIGGER tasks_changed AFTER UPDATE OF status, title, repo_name, branch, worktree ON tasks
WHEN (new.status, new.title, new.repo_name, new.branch, new.worktree)
    IS NOT (old.status, old.title, old.repo_name, old.branch, old.worktree) BEGIN
    INSERT INTO changes (at, kind, team_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task', new.team_id);
END;
CREATE TRIGGER task_links_added AFTER INSERT ON task_links BEGIN
    INSERT INTO changes (at, kind, repo_id, team_id)
    VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task', new.repo_id, new.team_id);
END;
CREATE TRIGGER task_links_deleted AFTER DELETE ON task_links BEGIN
    INSERT INTO changes (at, kind, repo_id, team_id)
    VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task', old.repo_id, old.team_id);
END;
CREATE TRIGGER channels_changed AFTER UPDATE OF failures, rests_until, last_error_at ON channels
WHEN (new.failures, new.rests_until, new.last_error_at) IS NOT (old.failures, old.rests_until, old.last_error_at) BEGIN
    INSERT INTO changes (at, kind, team_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'channel', new.team_id);
END;
CREATE TRIGGER notifications_added AFTER INSERT ON notifications BEGIN
    INSERT INTO changes (at, kind, team_id)
    VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'notification', new.team_id);
END;
CREATE TRIGGER notifications_changed AFTER UPDATE OF state, attempts ON notifications BEGIN
    INSERT INTO changes (at, kind, team_id)
    VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'notification', new.team_id);
END;
-- One for each repository, since its teams alone may learn of it.
DROP TRIGGER installations_changed;
CREATE TRIGGER installations_changed AFTER UPDATE OF access ON installations WHEN new.access <> old.access BEGIN
    INSERT INTO changes (at, kind, repo_id)
    SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER), 'repo', id FROM repositories WHERE installation_id = new.id;
END;
CREATE TRIGGER team_repositories_added AFTER INSERT ON team_repositories BEGIN
    INSERT INTO changes (at, kind, repo_id, team_id)
    VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'repo', new.repo_id, new.team_id);
END;
CREATE TRIGGER team_repositories_changed AFTER UPDATE OF tracked ON team_repositories WHEN new.tracked <> old.tracked BEGIN
    INSERT INTO changes (at, kind, repo_id, team_id)
    VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'repo', new.repo_id, new.team_id);
END;
CREATE TRIGGER team_repositories_deleted AFTER DELETE ON team_repositories BEGIN
    INSERT INTO changes (at, kind, team_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'repo', old.team_id);
END;

-- The report views, as before and with the team.

CREATE VIEW report_about AS
SELECT 1 AS version, name AS team FROM teams;

-- The one place that says which repositories are shown: the other views show these alone. One that several teams see has a row
-- for each of them, here and in every other view.
CREATE VIEW report_repositories AS
SELECT r.id AS repo_id, r.name AS repo,
    CASE WHEN r.access = 'granted' AND i.access = 'revoked' THEN 'revoked' ELSE r.access END AS repo_access,
    r.private, t.tracked,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.tracked_since / 1000.0, 'unixepoch') AS tracked_since, r.sync_status,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.last_sync_at / 1000.0, 'unixepoch') AS last_sync_at, r.last_error,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.last_delivery_at / 1000.0, 'unixepoch') AS last_delivery_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.complete_since, 'unixepoch') AS complete_since, r.missed_by_webhook,
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
    p.source, p.definition, r.team
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
    'coding' AS stage, 1 AS place, coding_hours AS hours, coding_business_hours AS business_hours, team
FROM report_pull_requests WHERE state = 'merged' AND coding_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'pickup' AS stage, 2 AS place, pickup_hours AS hours, pickup_business_hours AS business_hours, team
FROM report_pull_requests WHERE state = 'merged' AND pickup_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'review' AS stage, 3 AS place, review_hours AS hours, review_business_hours AS business_hours, team
FROM report_pull_requests WHERE state = 'merged' AND review_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'merge_wait' AS stage, 4 AS place, merge_wait_hours AS hours, merge_wait_business_hours AS business_hours, team
FROM report_pull_requests WHERE state = 'merged' AND merge_wait_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'redraft' AS stage, 5 AS place, redraft_hours AS hours, redraft_business_hours AS business_hours, team
FROM report_pull_requests WHERE state = 'merged' AND redraft_hours IS NOT NULL
UNION ALL
SELECT repo_id, repo, number, authors, countable, counted, merged_at, merged_day, merged_week, merged_month,
    'closed' AS stage, 6 AS place, closed_hours AS hours, closed_business_hours AS business_hours, team
FROM report_pull_requests WHERE state = 'merged' AND closed_hours IS NOT NULL;

CREATE VIEW report_flags AS
SELECT p.repo_id, p.repo, p.number, p.authors, p.countable, p.counted, p.state,
    p.merged_at, p.merged_day, p.merged_week, p.merged_month, f.value AS flag, p.team
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
    p.waiting_rule AS rule, p.held_by, p.draft, p.team
FROM report_pull_requests p
WHERE p.state = 'open' AND p.waiting_since IS NOT NULL;

CREATE VIEW report_waiting_on AS
SELECT w.repo_id, p.repo, w.number, p.authors,
    CASE w.kind WHEN 'team' THEN 'team' ELSE 'person' END AS kind, w.name,
    strftime('%Y-%m-%dT%H:%M:%SZ', w.since, 'unixepoch') AS since,
    (unixepoch() - w.since) / 3600.0 AS waited_hours, p.team
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
    strftime('%Y-%m-%dT%H:%M:%SZ', v.dismissed_at, 'unixepoch') AS dismissed_at, r.team
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
        THEN (a.response_review_at - a.asked_at) / 3600.0 END AS response_hours, r.team
FROM review_pairs a
JOIN report_repositories r ON r.repo_id = a.repo_id;

CREATE VIEW report_backfills AS
SELECT s.id AS sync_run, s.repo_id, r.repo, s.state,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.asked_at / 1000.0, 'unixepoch') AS requested_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.started_at / 1000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.finished_at / 1000.0, 'unixepoch') AS finished_at,
    s.prs_done, s.prs_total, json_array_length(s.errors) AS prs_failed, s.reviews_synced,
    s.github_requests,
    strftime('%Y-%m-%dT%H:%M:%SZ', s.complete_since, 'unixepoch') AS complete_since, s.error, r.team
FROM sync_runs s
JOIN report_repositories r ON r.repo_id = s.repo_id;
