-- A million pull requests, 20,000 of them open, as far as lists and totals of what waits read them.
INSERT INTO repositories (id, name, private, seen_at, access, access_at, tracked_since)
WITH RECURSIVE r (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r WHERE id < 200)
SELECT id, 'acme-corp/service-' || id, 0, 1772000000, 'granted', 1772000000, 1772000000000 FROM r;

INSERT INTO pull_requests (
    repo_id, number, version, pr_id, pr_created_at, author_id, author_login, author_type, author_at, updated_at, title,
    labels, is_open, closed_at, branches_updated_at, draft, base_ref, head_ref, head_sha, head_repo_id, merged_at,
    source, definition, state, author_is_bot, ready_at, first_review_at, cycle_time_s, pickup_s, flags, body, timeline,
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
    created, created + life / 5, CASE WHEN state = 'merged' THEN life END, life / 5, '[]', printf('%.400c', 'b'),
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
