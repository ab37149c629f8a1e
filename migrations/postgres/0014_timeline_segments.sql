-- Older entries of long timelines. A write stores the recent ones with the pull request; when these are many they become a
-- segment, which no later write reads or changes. All together are the facts; an entry that is in several is joined.
CREATE TABLE timeline_segments (
    repo_id  bigint NOT NULL,
    number   bigint NOT NULL,
    -- Of the pull request, as the write left it.
    version  bigint NOT NULL,
    -- As in pull_requests.
    timeline jsonb  NOT NULL,
    observed jsonb  NOT NULL,
    PRIMARY KEY (repo_id, number, version)
);
