-- A million pull requests, 20,000 of them open, half a million reviews and as many deliveries, as far as lists, totals and numbers
-- of stages read them.
INSERT INTO repositories (id, name, private, seen_at, access, access_at, tracked_since)
WITH RECURSIVE r (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r WHERE id < 200)
SELECT id, 'acme-corp/service-' || id, 0, 1772000000, 'granted', 1772000000, 1772000000000 FROM r;

INSERT INTO pull_requests (
    repo_id, number, version, pr_id, pr_created_at, author_id, author_login, author_type, author_at, updated_at, title,
    labels, is_open, closed_at, branches_updated_at, draft, base_ref, head_ref, head_sha, head_repo_id, merged_at,
    source, definition, state, author_is_bot, ready_at, first_review_at, cycle_time_s, review_time_s, coding_s,
    pickup_s, review_s, merge_wait_s, flags, body, timeline,
    observed, waiting_for, waiting_since, waiting_kind_since, waiting_rule, waiting, turn, turn_since, time_by,
    turns_inferred)
WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000000),
drawn AS (
    SELECT n, n * 7919 % 200 + 1 AS repo, 1677628800 + 95 * n AS created, 60 + n * 104729 % 1048576 AS life,
        CASE WHEN n % 100 IN (0, 40) THEN 'open' WHEN n % 20 < 3 THEN 'closed' ELSE 'merged' END AS state,
        json_extract('["author","reviewers","reviewers","reviewers","nobody","maintainers","author","author","ci","merge_queue"]',
            '$[' || (n / 20 % 10) || ']') AS waits,
        json_extract('[1,7,7,7,9,12,12,5,11,2]', '$[' || (n / 20 % 10) || ']') AS rule
    FROM n)
SELECT repo, n, 5, 'pr-' || n, created, n % 2000, 'Account-' || n % 2000, 'User', created, created + life,
    'Make number ' || n || ' faster', '[]', state = 'open', CASE WHEN state <> 'open' THEN created + life END, created + life,
    0, 'main', 'topic-' || n, 'h', repo, CASE WHEN state = 'merged' THEN created + life END, 'webhook', 2, state, n % 50 = 0,
    created, created + life / 5, CASE WHEN state = 'merged' THEN life END, life / 5,
    CASE WHEN state = 'merged' AND n % 3 = 0 THEN n * 31 % 100000 END, life / 5,
    CASE WHEN state = 'merged' THEN life / 2 END, CASE WHEN state = 'merged' THEN life - life / 5 - life / 2 END, '[]', printf('%.400c', 'b'),
    printf('[%.1200c]', ' '), '{}', CASE WHEN state = 'open' THEN waits END,
    CASE WHEN state = 'open' THEN created + life / 2 END, CASE WHEN state = 'open' THEN created + life / 2 END,
    CASE WHEN state = 'open' THEN rule END,
    CASE WHEN state = 'open' THEN json_object('for', waits, 'who', json('[]'), 'since', '2026-03-03T10:00:00Z', 'kind_since',
        '2026-03-03T10:00:00Z', 'because', 'asked on 3 March', 'rule', rule, 'also', json('[]'), 'since_is_latest', json('false')) END,
    CASE WHEN state = 'open' THEN waits END, CASE WHEN state = 'open' THEN created + life / 2 END, '{"author": 3600}', 0
FROM drawn;

INSERT INTO waiting_parties (repo_id, number, place, kind, party_id, name, since)
SELECT repo_id, number, 0, CASE number % 3 WHEN 0 THEN 'team' ELSE 'account' END, number % 300,
    CASE number % 3 WHEN 0 THEN 'team-' || number % 300 ELSE 'Account-' || number % 2000 END, waiting_since
FROM pull_requests WHERE state = 'open' AND waiting_for IN ('author', 'reviewers');

INSERT INTO reviews (github_review_id, repo_id, number, reviewer_id, reviewer_login, reviewer_type, original_state, submitted_at,
    commit_id, dismissed)
SELECT number, repo_id, number, 7, 'Account-7', 'User', 'approved', first_review_at, head_sha, 0
FROM pull_requests WHERE number % 2 = 0;

INSERT INTO deliveries (guid, body_sha256, event, action, repo_id, repo_name, pr_number, source, lane, state, reason, attempts,
    received_at, next_attempt_at, finished_at, body_bytes)
SELECT printf('%08x-0000-4000-8000-000000000000', number), zeroblob(32), CASE WHEN number % 3 = 0 THEN 'push' ELSE
    'pull_request' END, 'opened', repo_id, 'acme-corp/service-' || repo_id, number, 'webhook', 'live',
    CASE WHEN number % 5000 = 1 THEN 'dead' WHEN number % 3 = 0 THEN 'ignored' ELSE 'applied' END,
    CASE WHEN number % 5000 = 1 THEN 'cannot be decoded' WHEN number % 3 = 0 THEN 'a push names no pull request' END, 1,
    pr_created_at * 1000, pr_created_at * 1000, pr_created_at * 1000 + 40, 20000
FROM pull_requests WHERE number % 2 = 1 ORDER BY number;

ANALYZE;
