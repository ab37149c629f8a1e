-- Who claimed a delivery: what a process claimed that is no more need not wait for its lease to end.
ALTER TABLE deliveries ADD COLUMN leased_by INTEGER NOT NULL DEFAULT 0;

-- Whether a copy of a dead letter went to the broker's queue of dead ones.
ALTER TABLE deliveries ADD COLUMN dead_copied INTEGER NOT NULL DEFAULT 0;
CREATE INDEX deliveries_uncopied ON deliveries (id) WHERE state = 'dead' AND dead_copied = 0;
