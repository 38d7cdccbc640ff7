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
    device_info TEXT,
    client_id TEXT,
    -- Separated by commas, newest last.
    ip_addresses TEXT NOT NULL,
    signed_in INTEGER NOT NULL,
    last_accessed INTEGER NOT NULL,
    authenticated_at INTEGER NOT NULL,
    absolute_expiry INTEGER,
    data TEXT,
    token_current BLOB NOT NULL,
    token_family BLOB NOT NULL,
    token_retired BLOB,
    token_retired_at INTEGER,
    FOREIGN KEY (tenant, user_id) REFERENCES session_kit_users (tenant, user_id)
) STRICT;

-- Sign-in reads a user's sessions; admin pages list newest first, in all tenants, in one, or of
-- one user, whose tenant need not be known; cleanup takes the longest unused and the expired.
CREATE INDEX session_kit_sessions_by_user
    ON session_kit_sessions (user_id, tenant, signed_in DESC, id);
CREATE INDEX session_kit_sessions_by_tenant
    ON session_kit_sessions (tenant, signed_in DESC, id);
CREATE INDEX session_kit_sessions_by_time
    ON session_kit_sessions (signed_in DESC, id);
CREATE INDEX session_kit_sessions_by_client
    ON session_kit_sessions (client_id, signed_in DESC, id) WHERE client_id IS NOT NULL;
CREATE INDEX session_kit_sessions_by_use
    ON session_kit_sessions (last_accessed);
CREATE INDEX session_kit_sessions_by_expiry
    ON session_kit_sessions (absolute_expiry) WHERE absolute_expiry IS NOT NULL;

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

CREATE TABLE session_kit_policies (
    tenant TEXT NOT NULL,
    -- Empty for the policy of a tenant or of the deployment.
    user_id TEXT NOT NULL,
    policy TEXT NOT NULL,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE session_kit_leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    -- By the clock of the database.
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
