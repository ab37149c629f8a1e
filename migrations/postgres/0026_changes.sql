-- What changed in the last minutes, for pages that are open: no more than they need to ask again. What workers and the
-- inbox change is written by them, since they are many; everything else by triggers, so that no way of changing it is forgotten.
CREATE TABLE changes (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- By our own clock.
    at            timestamptz NOT NULL,
    kind          text        NOT NULL COLLATE "C" CHECK (kind IN
                      ('batch', 'repo', 'sync_run', 'inbox', 'task', 'channel', 'notification')),
    repo_id       bigint,
    -- Of a batch, JSON: [[repo_id, number], ...]; NULL if they are too many.
    pull_requests text
);

-- Its argument is the kind.
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (at, kind) VALUES (clock_timestamp(), TG_ARGV[0]);
    RETURN NULL;
END
$$;

-- The same for a row of a repository.
CREATE FUNCTION note_change_of_repository() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO changes (at, kind, repo_id) VALUES (clock_timestamp(), TG_ARGV[0], OLD.repo_id);
    ELSE
        INSERT INTO changes (at, kind, repo_id) VALUES (clock_timestamp(), TG_ARGV[0], NEW.repo_id);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION note_repository() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO changes (at, kind, repo_id) VALUES (clock_timestamp(), 'repo', NEW.id);
    RETURN NULL;
END
$$;

CREATE TRIGGER sync_runs_added AFTER INSERT ON sync_runs
    FOR EACH ROW EXECUTE FUNCTION note_change_of_repository('sync_run');
CREATE TRIGGER sync_runs_changed AFTER UPDATE OF state, prs_done, prs_total, reviews_synced, errors, error ON sync_runs
    FOR EACH ROW EXECUTE FUNCTION note_change_of_repository('sync_run');
CREATE TRIGGER repositories_changed AFTER UPDATE OF sync_status, last_sync_at, last_error, tracked ON repositories
    FOR EACH ROW WHEN ((NEW.sync_status, NEW.last_sync_at, NEW.last_error, NEW.tracked)
        IS DISTINCT FROM (OLD.sync_status, OLD.last_sync_at, OLD.last_error, OLD.tracked))
    EXECUTE FUNCTION note_repository();
CREATE TRIGGER installations_changed AFTER UPDATE OF access ON installations
    FOR EACH ROW WHEN (NEW.access <> OLD.access) EXECUTE FUNCTION note_change('repo');
CREATE TRIGGER tasks_added AFTER INSERT ON tasks
    FOR EACH ROW EXECUTE FUNCTION note_change('task');
CREATE TRIGGER tasks_changed AFTER UPDATE OF status, title, repo_name, branch, worktree ON tasks
    FOR EACH ROW WHEN ((NEW.status, NEW.title, NEW.repo_name, NEW.branch, NEW.worktree)
        IS DISTINCT FROM (OLD.status, OLD.title, OLD.repo_name, OLD.branch, OLD.worktree))
    EXECUTE FUNCTION note_change('task');
CREATE TRIGGER task_links_changed AFTER INSERT OR DELETE ON task_links
    FOR EACH ROW EXECUTE FUNCTION note_change_of_repository('task');
CREATE TRIGGER channels_changed AFTER UPDATE OF failures, rests_until, last_error_at ON channels
    FOR EACH ROW WHEN ((NEW.failures, NEW.rests_until, NEW.last_error_at)
        IS DISTINCT FROM (OLD.failures, OLD.rests_until, OLD.last_error_at))
    EXECUTE FUNCTION note_change('channel');
CREATE TRIGGER notifications_changed AFTER INSERT OR UPDATE OF state, attempts ON notifications
    FOR EACH ROW EXECUTE FUNCTION note_change('notification');
