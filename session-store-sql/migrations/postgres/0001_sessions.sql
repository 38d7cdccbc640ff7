-- Times are microseconds since the Unix epoch, UTC. An empty tenant stands for none.

CREATE TABLE {t}meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Tells this log from that of another database.
    incarnation text NOT NULL,
    -- No entry of a later transaction, and none of a higher number, has been trimmed.
    trimmed_xid xid8 NOT NULL DEFAULT '0',
    trimmed_seq bigint NOT NULL DEFAULT 0,
    -- Entries up to this number are older than this log's incarnation: ids of transactions in them may be
    -- those of another server.
    foreign_to bigint NOT NULL DEFAULT 0,
    -- The version and the digest of the functions in force.
    functions_version bigint NOT NULL DEFAULT 0,
    functions_digest text NOT NULL DEFAULT '',
    -- A secret: the key of the check in every token. The first node writes it.
    fleet_key bytea
);
INSERT INTO {t}meta (incarnation) VALUES (gen_random_uuid()::text);

CREATE TABLE {t}users (
    tenant text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    -- Drawn from the numbers of the log, so that none ever comes back.
    version bigint NOT NULL,
    PRIMARY KEY (tenant, user_id)
) WITH (fillfactor = 70);

-- Uses are written back all day: room in the pages, and no index on what they change, keep those
-- updates within their page.
CREATE TABLE {t}sessions (
    id bytea NOT NULL PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    device_kind text COLLATE "C" NOT NULL,
    client_id text COLLATE "C",
    -- Separated by commas, newest last.
    ip_addresses text NOT NULL,
    signed_in bigint NOT NULL,
    last_accessed bigint NOT NULL,
    deadline bigint NOT NULL,
    -- 0 or 1.
    claimed bigint NOT NULL,
    -- JSON that only the clients of this database read.
    details text NOT NULL,
    -- When the cleanup looks at it: at its deadline or earlier. Only the cleanup moves it, so a touch, which
    -- moves the deadline, changes no index.
    due bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);

CREATE INDEX {i}sessions_by_user ON {t}sessions (user_id, tenant, signed_in DESC, id);
-- A name in all tenants. The other collation compares the same bytes, and keeps the planner from taking
-- this index for the sessions of one user.
CREATE INDEX {i}sessions_by_name ON {t}sessions (user_id COLLATE "POSIX", signed_in DESC, id);
CREATE INDEX {i}sessions_by_tenant ON {t}sessions (tenant, signed_in DESC, id);
CREATE INDEX {i}sessions_by_time ON {t}sessions (signed_in DESC, id);
CREATE INDEX {i}sessions_by_client ON {t}sessions (client_id, signed_in DESC, id)
    WHERE client_id IS NOT NULL;
CREATE INDEX {i}sessions_by_tenant_client ON {t}sessions (tenant, client_id, signed_in DESC, id)
    WHERE client_id IS NOT NULL;
CREATE INDEX {i}sessions_by_due ON {t}sessions (due, id);

-- Sessions that have ended, as they were.
CREATE TABLE {t}history (
    id bytea PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    device_kind text COLLATE "C" NOT NULL,
    client_id text COLLATE "C",
    ip_addresses text NOT NULL,
    signed_in bigint NOT NULL,
    last_accessed bigint NOT NULL,
    deadline bigint NOT NULL,
    claimed bigint NOT NULL,
    details text NOT NULL,
    ended bigint NOT NULL,
    cause text COLLATE "C" NOT NULL,
    actor text NOT NULL,
    -- The device from which it was ended.
    ended_from text
);

CREATE INDEX {i}history_by_user ON {t}history (user_id, tenant, ended DESC, id);
CREATE INDEX {i}history_by_name ON {t}history (user_id COLLATE "POSIX", ended DESC, id);
CREATE INDEX {i}history_by_tenant ON {t}history (tenant, ended DESC, id);
-- Read backwards, also by age.
CREATE INDEX {i}history_by_time ON {t}history (ended DESC, id);

-- Numbers are not in the order of commits; the transaction's id tells a reader what it has not
-- seen yet. A transaction has its id before it draws a number: readers rely on it.
CREATE SEQUENCE {t}log_numbers;
CREATE TABLE {t}log (
    seq bigint PRIMARY KEY DEFAULT nextval('{t}log_numbers'),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- Random: tells an entry from another of the same number after a restored backup.
    tag bigint NOT NULL DEFAULT (random() * 9007199254740991)::bigint,
    kind text NOT NULL,
    at bigint NOT NULL,
    actor text NOT NULL,
    tenant text NOT NULL,
    user_id text,
    session_id bytea
);
CREATE INDEX {i}log_by_xid ON {t}log (xid);

-- What is set for the deployment, for tenants and for users. A place where nothing is set has no row.
CREATE TABLE {t}policies (
    tenant text COLLATE "C" NOT NULL,
    -- Empty for a tenant and for the deployment.
    user_id text COLLATE "C" NOT NULL,
    policy text,
    block text,
    -- When the block ends by itself; null for never.
    blocked_until bigint,
    PRIMARY KEY (tenant, user_id)
);

CREATE TABLE {t}leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    -- By the clock of the database.
    until timestamptz NOT NULL
);
-- Those that ran out are deleted, the oldest first.
CREATE INDEX {i}leases_by_until ON {t}leases (until);
