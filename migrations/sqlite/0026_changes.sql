-- What changed in the last minutes, for pages that are open: no more than they need to ask again. What workers and the
-- inbox change is written by them, since they are many; everything else by triggers, so that no way of changing it is forgotten.
CREATE TABLE changes (
    id            INTEGER PRIMARY KEY,
    -- By our own clock, in milliseconds.
    at            INTEGER NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN
                      ('batch', 'repo', 'sync_run', 'inbox', 'task', 'channel', 'notification')),
    repo_id       INTEGER,
    -- Of a batch, JSON: [[repo_id, number], ...]; NULL if they are too many.
    pull_requests TEXT
) STRICT;

CREATE TRIGGER sync_runs_added AFTER INSERT ON sync_runs BEGIN
    INSERT INTO changes (at, kind, repo_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'sync_run', new.repo_id);
END;
CREATE TRIGGER sync_runs_changed AFTER UPDATE OF state, prs_done, prs_total, reviews_synced, errors, error ON sync_runs BEGIN
    INSERT INTO changes (at, kind, repo_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'sync_run', new.repo_id);
END;
CREATE TRIGGER repositories_changed AFTER UPDATE OF sync_status, last_sync_at, last_error, tracked ON repositories
WHEN (new.sync_status, new.last_sync_at, new.last_error, new.tracked)
    IS NOT (old.sync_status, old.last_sync_at, old.last_error, old.tracked) BEGIN
    INSERT INTO changes (at, kind, repo_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'repo', new.id);
END;
CREATE TRIGGER installations_changed AFTER UPDATE OF access ON installations WHEN new.access <> old.access BEGIN
    INSERT INTO changes (at, kind) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'repo');
END;
CREATE TRIGGER tasks_added AFTER INSERT ON tasks BEGIN
    INSERT INTO changes (at, kind) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task');
END;
CREATE TRIGGER tasks_changed AFTER UPDATE OF status, title, repo_name, branch, worktree ON tasks
WHEN (new.status, new.title, new.repo_name, new.branch, new.worktree)
    IS NOT (old.status, old.title, old.repo_name, old.branch, old.worktree) BEGIN
    INSERT INTO changes (at, kind) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task');
END;
CREATE TRIGGER task_links_added AFTER INSERT ON task_links BEGIN
    INSERT INTO changes (at, kind, repo_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task', new.repo_id);
END;
CREATE TRIGGER task_links_deleted AFTER DELETE ON task_links BEGIN
    INSERT INTO changes (at, kind, repo_id) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'task', old.repo_id);
END;
CREATE TRIGGER channels_changed AFTER UPDATE OF failures, rests_until, last_error_at ON channels
WHEN (new.failures, new.rests_until, new.last_error_at) IS NOT (old.failures, old.rests_until, old.last_error_at) BEGIN
    INSERT INTO changes (at, kind) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'channel');
END;
CREATE TRIGGER notifications_added AFTER INSERT ON notifications BEGIN
    INSERT INTO changes (at, kind) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'notification');
END;
CREATE TRIGGER notifications_changed AFTER UPDATE OF state, attempts ON notifications BEGIN
    INSERT INTO changes (at, kind) VALUES (CAST(unixepoch('subsec') * 1000 AS INTEGER), 'notification');
END;
