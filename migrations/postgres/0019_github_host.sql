-- The GitHub of this installation, by the host of its pages. Numeric ids are unique within one GitHub alone.
CREATE TABLE github_host (
    id   integer PRIMARY KEY CHECK (id = 1),
    host text    NOT NULL
);

-- That of the pull requests that are known.
INSERT INTO github_host (id, host)
SELECT 1, lower(split_part(html_url, '/', 3)) FROM pull_requests WHERE html_url LIKE 'https://_%/%' LIMIT 1;
