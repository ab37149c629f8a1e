-- The time from which retention reckoned last. It follows the clock in steps of at most a day, so that a wrong clock deletes
-- little before it is noticed. NULL before the first time: then it starts at the oldest delivery.
CREATE TABLE retention (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    reckoned_at INTEGER
) STRICT;

INSERT INTO retention (id) VALUES (1);
