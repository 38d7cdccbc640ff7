-- Times are microseconds since the Unix epoch, UTC. An empty tenant stands for none.

CREATE TABLE session_kit_users (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- The number of the user's newest log entry.
    version INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE session_kit_sessions (
    id BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    device_kind TEXT NOT NULL,
    client_id TEXT,
    -- Separated by commas, newest last.
    ip_addresses TEXT NOT NULL,
    signed_in INTEGER NOT NULL,
    last_accessed INTEGER NOT NULL,
    -- When it ends if it is not used again.
    deadline INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    -- JSON that only the core reads and writes.
    details TEXT NOT NULL,
    -- When the cleanup looks at it: at its deadline or earlier. Only the cleanup moves it, so a touch, which
    -- moves the deadline, changes no index.
    due INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (tenant, user_id) REFERENCES session_kit_users (tenant, user_id)
) STRICT;

-- Sign-in reads a user's sessions; admin pages list newest first, in all tenants, in one, of one
-- client, or of one user name in all tenants; cleanup looks at those that are due.
CREATE INDEX session_kit_sessions_by_user
    ON session_kit_sessions (user_id, tenant, signed_in DESC, id);
CREATE INDEX session_kit_sessions_by_name
    ON session_kit_sessions (user_id, signed_in DESC, id);
CREATE INDEX session_kit_sessions_by_tenant
    ON session_kit_sessions (tenant, signed_in DESC, id);
CREATE INDEX session_kit_sessions_by_time
    ON session_kit_sessions (signed_in DESC, id);
CREATE INDEX session_kit_sessions_by_client
    ON session_kit_sessions (client_id, signed_in DESC, id) WHERE client_id IS NOT NULL;
CREATE INDEX session_kit_sessions_by_tenant_client
    ON session_kit_sessions (tenant, client_id, signed_in DESC, id) WHERE client_id IS NOT NULL;
CREATE INDEX session_kit_sessions_by_due
    ON session_kit_sessions (due, id);

-- The records of ended sessions, as they were. A user is not referenced: one without sessions is
-- forgotten.
CREATE TABLE session_kit_history (
    id BLOB NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    device_kind TEXT NOT NULL,
    client_id TEXT,
    ip_addresses TEXT NOT NULL,
    signed_in INTEGER NOT NULL,
    last_accessed INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    details TEXT NOT NULL,
    ended INTEGER NOT NULL,
    cause TEXT NOT NULL,
    actor TEXT NOT NULL,
    -- The device from which it was done.
    ended_from TEXT
) STRICT;

-- Pages list the latest end first. By time also reads backwards, for what is too old to be kept.
CREATE INDEX session_kit_history_by_user
    ON session_kit_history (user_id, tenant, ended DESC, id);
CREATE INDEX session_kit_history_by_name
    ON session_kit_history (user_id, ended DESC, id);
CREATE INDEX session_kit_history_by_tenant
    ON session_kit_history (tenant, ended DESC, id);
CREATE INDEX session_kit_history_by_time
    ON session_kit_history (ended DESC, id);

-- SQLite has one writer at a time, so numbers are in the order of commits and have no holes.
CREATE TABLE session_kit_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Random: tells an entry from another of the same number after a restored backup.
    tag INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    tenant TEXT NOT NULL,
    user_id TEXT,
    session_id BLOB
) STRICT;

-- What is set at a place: a policy, a block, or both.
CREATE TABLE session_kit_policies (
    tenant TEXT NOT NULL,
    -- Empty for a tenant or the deployment.
    user_id TEXT NOT NULL,
    policy TEXT,
    block TEXT,
    -- When the block ends by itself; null for never.
    blocked_until INTEGER,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE session_kit_leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    -- By the clock of the database.
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Those that ran out are deleted, the oldest first.
CREATE INDEX session_kit_leases_by_until
    ON session_kit_leases (until);

CREATE TABLE session_kit_fleet (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    -- The secret that all nodes share.
    key BLOB NOT NULL
) STRICT;
