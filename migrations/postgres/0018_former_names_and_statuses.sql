-- The status of a task at its creation, to which it returns when no pull request names it any more.
ALTER TABLE tasks ADD COLUMN initial_status TEXT;

UPDATE tasks SET initial_status = coalesce(
    (SELECT new_status FROM task_history WHERE task_id = tasks.id AND cause = 'created' ORDER BY id LIMIT 1), status);

-- JSON: the other names that a repository was seen with, in lower case, each with the time of its last sight in seconds.
ALTER TABLE repositories ADD COLUMN former_names jsonb NOT NULL DEFAULT '{}';

CREATE INDEX repositories_renamed ON repositories (id) WHERE former_names <> '{}';

-- The logins of people, in lower case, with the time of the first sight. An account keeps its id when its login changes, and
-- another may take the login.
CREATE TABLE account_logins (
    login      text        COLLATE "C" NOT NULL,
    account_id bigint      NOT NULL,
    seen_at    timestamptz NOT NULL,
    PRIMARY KEY (login, account_id)
);

CREATE INDEX account_logins_by_account ON account_logins (account_id);

INSERT INTO account_logins (login, account_id, seen_at)
SELECT lower(author_login), author_id, min(author_at) FROM pull_requests
WHERE author_id IS NOT NULL AND author_at IS NOT NULL GROUP BY lower(author_login), author_id;
