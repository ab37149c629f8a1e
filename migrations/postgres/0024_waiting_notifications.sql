-- The outbox also holds changes of waiting and daily digests.
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN
    ('pr_status_change', 'task_status_change', 'worktree_kept', 'waiting_change', 'digest'));
-- The only channel that is sent it; NULL for all.
ALTER TABLE outbox ADD COLUMN recipient text COLLATE "C";
-- JSON, of a waiting change or a digest.
ALTER TABLE outbox ADD COLUMN content text;

-- A later one about the same pull request makes a waiting change obsolete.
CREATE INDEX outbox_waiting ON outbox (repo_id, number, id) WHERE kind = 'waiting_change';

-- The end of the quiet hours in which it was not sent.
ALTER TABLE notifications ADD COLUMN held_until timestamptz;
-- Finds a newer one of the same subject that waits, too, when quiet hours end.
CREATE INDEX notifications_pending_by_subject ON notifications (channel, subject, event_id) WHERE state = 'pending';

-- The date, in the zone of the channel's calendar, of its last digest.
ALTER TABLE channels ADD COLUMN digest_day text COLLATE "C";
