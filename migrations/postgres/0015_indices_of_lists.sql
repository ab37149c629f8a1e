-- Tracked repositories by name, which is how they are listed and paged.
CREATE INDEX repositories_tracked ON repositories (name, id) WHERE tracked;
