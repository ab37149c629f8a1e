-- The GitHub of this installation, by the host of its pages. Numeric ids are unique within one GitHub alone.
CREATE TABLE github_host (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    host TEXT    NOT NULL
) STRICT;

-- That of the pull requests that are known.
INSERT INTO github_host (id, host)
SELECT 1, lower(substr(page, 1, instr(page, '/') - 1))
FROM (SELECT substr(html_url, 9) AS page FROM pull_requests WHERE html_url LIKE 'https://_%/%' LIMIT 1);
