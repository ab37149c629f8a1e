-- The origin of a pull request and the parts that bots have in it: of the numbers, and computed with them.
ALTER TABLE pull_requests
    -- human, assisted, agent or automation; NULL is unknown.
    ADD COLUMN origin                text COLLATE "C",
    ADD COLUMN origin_certainty      text COLLATE "C",
    -- Login of the person for whom an agent opened it.
    ADD COLUMN opened_by             text,
    ADD COLUMN reviewed_by_requester boolean,
    ADD COLUMN first_bot_response_at timestamptz,
    ADD COLUMN first_ai_review_at    timestamptz;
