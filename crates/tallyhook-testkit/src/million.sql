-- A million pull requests of three years in 200 repositories, 20,000 of them open, half a million reviews and as many deliveries, and tasks, with the
-- skew of real ones: a few repositories and authors have most of them, and the second repository has been at rest for
-- years. Everything follows from the number of the row,
-- so that two runs are the same.

ALTER TABLE pull_requests SET UNLOGGED;
ALTER TABLE reviews SET UNLOGGED;

-- Indices are made once the rows are there.
CREATE TEMP TABLE dropped AS SELECT indexname, indexdef FROM pg_indexes
WHERE tablename IN ('pull_requests', 'reviews', 'deliveries') AND indexname NOT IN (SELECT conname FROM pg_constraint);
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT indexname FROM dropped LOOP EXECUTE 'DROP INDEX ' || name; END LOOP;
END $$;

INSERT INTO repositories (id, name, private, seen_at, access, access_at, tracked_since)
SELECT r, 'acme-corp/service-' || r, false, '2026-03-01Z', 'granted', '2026-03-01Z', '2026-03-01Z'
FROM generate_series(1, 200) r;

INSERT INTO pull_requests (
    repo_id, number, version, pr_id, github_pr_id, pr_created_at, author_id, author_login, author_type, author_at,
    updated_at, title, html_url, labels, is_open, closed_at, branches_updated_at, draft, base_ref, head_ref, head_sha,
    head_repo_id, full_updated_at, additions, deletions, changed_files, commits, merged_at, source, definition, state,
    author_is_bot, first_commit_at, ready_at, first_response_at, first_review_at, final_approval_at, cycle_time_s,
    review_time_s, coding_s, pickup_s, review_s, merge_wait_s, redraft_s, closed_s, flags, body, timeline, observed,
    waiting_for, waiting_since, waiting_kind_since, waiting_rule, waiting, turn, turn_since, time_by, turns_inferred)
SELECT
    repo, n, 5, hash::uuid, 1000000 + n, created, author, login, CASE WHEN bot THEN 'Bot' ELSE 'User' END, ended,
    ended, 'Make the ' || hash || ' faster', 'https://github.com/acme-corp/service-' || repo || '/pull/' || n,
    CASE n % 5 WHEN 0 THEN '{bug}'::text[] WHEN 1 THEN '{api,performance}' ELSE '{}' END, state = 'open',
    CASE WHEN state <> 'open' THEN ended END, ended, false, 'main', 'topic-' || n, hash || '01234567', repo,
    ended, n % 700, n % 300, n % 20, n % 9 + 1, CASE WHEN merged THEN ended END, 'webhook', 2, state, bot,
    created - interval '1 day', created, created + pickup, created + pickup, created + pickup + review,
    CASE WHEN merged THEN extract(epoch FROM life)::bigint END,
    CASE WHEN reviewed THEN extract(epoch FROM pickup)::bigint END,
    CASE WHEN merged AND n % 3 = 0 THEN n * 31 % 100000 END,
    CASE WHEN merged AND reviewed THEN extract(epoch FROM pickup)::bigint END,
    CASE WHEN merged AND reviewed THEN extract(epoch FROM review)::bigint END,
    CASE WHEN merged THEN extract(epoch FROM life - pickup - review)::bigint END,
    CASE WHEN n % 40 = 0 THEN n % 86400 END, CASE WHEN n % 90 = 0 THEN n % 7200 END,
    CASE WHEN merged AND NOT reviewed THEN '{merged_without_review}'::text[] WHEN n % 50 = 1 THEN '{stub}'
         WHEN n % 11 = 0 THEN '{pushed_after_approval,reopened}' ELSE '{}' END,
    repeat(hash || ' ', 12), timeline, '{"1772445600": {"open": false, "draft": false}}',
    waits, since, since, rule,
    CASE WHEN state = 'open' THEN jsonb_build_object('for', waits, 'who', '[]'::jsonb,
        'since', to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'kind_since', to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'because', 'asked on 3 March', 'rule', rule, 'also', '[]'::jsonb, 'since_is_latest', false) END,
    CASE WHEN state = 'open' THEN replace(waits, 'base_pr', 'author') END, since, '{"author": 3600, "nobody": 60}', false
FROM (
    SELECT *, md5(n::text) AS hash, created + life AS ended, life * 0.2 AS pickup, life * 0.5 AS review,
           author < 6 AS bot, 'Account-' || author || CASE WHEN author < 6 THEN '[bot]' ELSE '' END AS login,
           n % 20 > 2 AS merged, n % 9 > 0 AS reviewed,
           CASE WHEN state = 'open' THEN created + life * 0.5 END AS since,
           CASE WHEN state = 'open' THEN (ARRAY['author', 'reviewers', 'reviewers', 'reviewers', 'nobody', 'maintainers',
               'author', 'author', 'ci', 'merge_queue'])[n / 20 % 10 + 1] END AS waits,
           CASE WHEN state = 'open' THEN (ARRAY[1, 7, 7, 7, 9, 12, 12, 5, 11, 2])[n / 20 % 10 + 1] END AS rule
    FROM (
        SELECT n, CASE WHEN n % 100 IN (0, 40) THEN 'open' WHEN n % 20 < 3 THEN 'closed' ELSE 'merged' END AS state,
               CASE WHEN n % 16 = 1 AND n < 400000 THEN 2
                       ELSE 3 + (198 * pow(hashint8(n)::bigint & 65535, 3) / pow(65536::float8, 3))::int % 198 END AS repo,
               1 + (2000 * pow(hashint8(n * 7)::bigint & 65535, 2) / pow(65536::float8, 2))::int % 2000 AS author,
               timestamptz '2023-03-01Z' + interval '95 seconds' * n AS created,
               interval '1 second' * (60 + (hashint8(n * 3)::bigint & 1048575)) AS life
        FROM generate_series(1, 1000000) n) drawn) computed,
    (SELECT jsonb_agg(jsonb_build_object('at', '2026-03-02T10:00:00Z', 'type', 'pushed', 'detail', md5(f::text),
            'actor', '{"id": 7, "login": "account-7", "type": "User"}'::jsonb)) AS timeline
     FROM generate_series(1, 6) f) six;

INSERT INTO waiting_parties (repo_id, number, place, kind, party_id, name, since)
SELECT repo_id, number, 0, CASE number % 3 WHEN 0 THEN 'team' ELSE 'account' END, number % 300,
    CASE number % 3 WHEN 0 THEN 'team-' || number % 300 ELSE 'Account-' || number % 2000 END, waiting_since
FROM pull_requests WHERE waiting_for IN ('author', 'reviewers');

INSERT INTO reviews (github_review_id, repo_id, number, reviewer_id, reviewer_login, reviewer_type, original_state,
    submitted_at, commit_id, dismissed)
SELECT number, repo_id, number, 7, 'Account-7', 'User', 'approved', first_review_at, head_sha, false
FROM pull_requests WHERE number % 2 = 0;

INSERT INTO deliveries (guid, body_sha256, event, action, repo_id, repo_name, pr_number, source, lane, state, reason,
    attempts, received_at, next_attempt_at, finished_at, body_bytes)
SELECT hash::uuid::text, decode(hash || hash, 'hex'), CASE WHEN n % 1000 = 0 THEN 'merge_group' WHEN n % 3 = 0 THEN 'push'
       ELSE 'pull_request' END, 'opened', n % 200, 'acme-corp/service-' || n % 200, n, 'webhook', 'live', state,
    CASE state WHEN 'dead' THEN 'cannot be decoded' WHEN 'ignored' THEN 'a push names no pull request' END, 1, received,
    received + interval '5 minutes', CASE WHEN state <> 'accepted' THEN received END, 20000
FROM (
    SELECT n, md5(n::text) AS hash, timestamptz '2026-02-01Z' + interval '5 seconds' * n AS received,
           CASE WHEN n > 499000 THEN 'accepted' WHEN n % 5000 = 1 THEN 'dead' WHEN n % 3 = 0 THEN 'ignored'
                ELSE 'applied' END AS state
    FROM generate_series(1, 500000) n) computed;

INSERT INTO delivery_bodies (delivery_id, body) SELECT id, body_sha256 FROM deliveries WHERE id > 300000;

DO $$ DECLARE definition text; BEGIN
    FOR definition IN SELECT indexdef FROM dropped LOOP EXECUTE definition; END LOOP;
END $$;

-- Twenty thousand tasks, the pull requests that name them or are linked to them, and a channel with
-- notifications of two hundred thousand events.
INSERT INTO tasks (team_id, id, task_key, title, status, repo_name, branch, created_at, updated_at, follow_due)
SELECT 1, md5(n::text)::uuid::text, 'PROJ-' || n, 'Make it faster', CASE n % 10 WHEN 0 THEN 'TODO' WHEN 1 THEN 'CODE_REVIEWING'
       ELSE 'DONE' END, 'acme-corp/service-' || n % 198 + 3, 'topic-' || n, created, created, (n > 19000)::int
FROM (SELECT n, timestamptz '2026-01-01Z' + interval '1 minute' * n AS created FROM generate_series(1, 20000) n) computed;

INSERT INTO mentions (task_key, repo_id, number)
SELECT 'PROJ-' || number % 200000, repo_id, number FROM pull_requests WHERE number % 5 = 0;

INSERT INTO task_links (team_id, task_id, repo_id, number, linked_at)
SELECT 1, md5(number::text)::uuid::text, repo_id, number, '2026-01-01Z' FROM pull_requests WHERE number <= 20000;

INSERT INTO task_history (team_id, task_id, happened_at, recorded_at, new_status, cause)
SELECT 1, md5((n % 20000 + 1)::text)::uuid::text, '2026-01-01Z', '2026-01-01Z', 'DONE', 'pull_request'
FROM generate_series(1, 100000) n;

INSERT INTO outbox (kind, repo_id, repo_name, number, new_status, happened_at, sync_source, recorded_at)
SELECT 'pr_status_change', repo_id, 'acme-corp/service-' || repo_id, number, 'OPEN', pr_created_at, 'webhook',
       timestamptz '2026-02-20Z' + interval '4 seconds' * number
FROM pull_requests WHERE number <= 200000 ORDER BY number;

INSERT INTO channels (team_id, name, place) VALUES (1, 'slack', 199900), (1, 'webhook', 200000), (1, 'no-more', 0);

INSERT INTO notifications (team_id, event_id, channel, subject, state, taken_up_at, next_attempt_at)
SELECT 1, id, 'webhook', 'pr ' || number, CASE WHEN id > 199500 THEN 'pending' WHEN id % 5000 = 1 THEN 'dead' ELSE 'sent' END,
       recorded_at, recorded_at
FROM outbox;
