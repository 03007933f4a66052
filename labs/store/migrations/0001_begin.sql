-- Times are microseconds since 1970 in UTC. Text from sandboxes is cut before
-- it comes here.

CREATE TABLE learners (
	id         TEXT    NOT NULL PRIMARY KEY,
	created    INTEGER NOT NULL,
	token_hash BLOB    NOT NULL UNIQUE
) STRICT;

CREATE TABLE sessions (
	id      TEXT    NOT NULL PRIMARY KEY,
	learner TEXT    NOT NULL REFERENCES learners (id),
	lesson  TEXT    NOT NULL,
	sandbox TEXT    NOT NULL,
	started INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	active  INTEGER NOT NULL,
	ended   INTEGER,          -- NULL while open
	reason  TEXT    NOT NULL
) STRICT;

-- A learner has one open session with a lesson at a time.
CREATE UNIQUE INDEX sessions_open ON sessions (learner, lesson) WHERE ended IS NULL;
CREATE INDEX sessions_newest ON sessions (learner, lesson, started);

CREATE TABLE attempts (
	seq      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- in the order recorded
	session  TEXT    NOT NULL REFERENCES sessions (id),
	learner  TEXT    NOT NULL REFERENCES learners (id),
	lesson   TEXT    NOT NULL,
	"check"  TEXT    NOT NULL,
	status   TEXT    NOT NULL,
	expected TEXT    NOT NULL,
	seen     TEXT    NOT NULL,
	reason   TEXT    NOT NULL,
	at       INTEGER NOT NULL
) STRICT;

-- The newest result of a check, and the first that passed, are found without
-- reading those between, however many there are.
CREATE INDEX attempts_by_check ON attempts (learner, lesson, "check", seq);
CREATE INDEX attempts_passed ON attempts (learner, lesson, "check", seq) WHERE status = 'passed';
CREATE INDEX attempts_newest ON attempts (learner, lesson, seq);

CREATE TABLE entries (
	seq     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	session TEXT    REFERENCES sessions (id), -- NULL when it belongs to none
	learner TEXT    NOT NULL REFERENCES learners (id),
	lesson  TEXT    NOT NULL,
	kind    TEXT    NOT NULL,
	detail  TEXT    NOT NULL,
	at      INTEGER NOT NULL,
	after   INTEGER NOT NULL -- the newest attempt when this was recorded: what a reset forgets
) STRICT;

CREATE INDEX entries_by_kind ON entries (learner, lesson, kind, seq);
CREATE INDEX entries_newest ON entries (learner, lesson, seq);
