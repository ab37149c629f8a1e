-- The origin of a pull request and the parts that bots have in it: of the numbers, and computed with them.
-- human, assisted, agent or automation; NULL is unknown.
ALTER TABLE pull_requests ADD COLUMN origin TEXT;
ALTER TABLE pull_requests ADD COLUMN origin_certainty TEXT;
-- Login of the person for whom an agent opened it.
ALTER TABLE pull_requests ADD COLUMN opened_by TEXT;
ALTER TABLE pull_requests ADD COLUMN reviewed_by_requester INTEGER;
ALTER TABLE pull_requests ADD COLUMN first_bot_response_at INTEGER;
ALTER TABLE pull_requests ADD COLUMN first_ai_review_at INTEGER;
