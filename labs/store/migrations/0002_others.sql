-- A session may have several sandboxes: the ids of those after the first, with
-- spaces between.
ALTER TABLE sessions ADD COLUMN others TEXT NOT NULL DEFAULT '';
