-- Times are microseconds since the Unix epoch, UTC. An empty tenant stands for none. What is
-- compared is bytes: no collation folds case or trailing spaces.

CREATE TABLE IF NOT EXISTS {t}users (
    tenant VARBINARY(128) NOT NULL,
    user_id VARBINARY(255) NOT NULL,
    -- Another one after every change. None comes back.
    version BIGINT NOT NULL,
    PRIMARY KEY (tenant, user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS {t}sessions (
    id BINARY(16) NOT NULL PRIMARY KEY,
    tenant VARBINARY(128) NOT NULL,
    user_id VARBINARY(255) NOT NULL,
    device_kind VARBINARY(64) NOT NULL,
    client_id VARBINARY(128),
    -- Separated by commas, newest last.
    ip_addresses VARBINARY(1024) NOT NULL,
    signed_in BIGINT NOT NULL,
    last_accessed BIGINT NOT NULL,
    -- When it ends if it is not used again.
    deadline BIGINT NOT NULL,
    -- Whether its token has been presented: 0 or 1.
    claimed TINYINT NOT NULL,
    -- JSON, which no statement looks into.
    details MEDIUMBLOB NOT NULL,
    -- When the cleanup looks at it: at its deadline or earlier. Only the cleanup moves it, so a touch, which
    -- moves the deadline, changes no index.
    due BIGINT NOT NULL DEFAULT 0,
    KEY {i}sessions_by_user (user_id, tenant, signed_in DESC, id),
    KEY {i}sessions_by_name (user_id, signed_in DESC, id),
    KEY {i}sessions_by_tenant (tenant, signed_in DESC, id),
    KEY {i}sessions_by_time (signed_in DESC, id),
    KEY {i}sessions_by_client (client_id, signed_in DESC, id),
    KEY {i}sessions_by_due (due, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Sessions that have ended: the record as it was, and how it ended. An id in here is never given again.
CREATE TABLE IF NOT EXISTS {t}history (
    id BINARY(16) NOT NULL PRIMARY KEY,
    tenant VARBINARY(128) NOT NULL,
    user_id VARBINARY(255) NOT NULL,
    device_kind VARBINARY(64) NOT NULL,
    client_id VARBINARY(128),
    ip_addresses VARBINARY(1024) NOT NULL,
    signed_in BIGINT NOT NULL,
    last_accessed BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    claimed TINYINT NOT NULL,
    details MEDIUMBLOB NOT NULL,
    ended BIGINT NOT NULL,
    cause VARBINARY(32) NOT NULL,
    actor VARBINARY(1024) NOT NULL,
    -- The device from which it was ended.
    ended_from VARBINARY(256),
    KEY {i}history_by_user (user_id, tenant, ended DESC, id),
    KEY {i}history_by_name (user_id, ended DESC, id),
    KEY {i}history_by_tenant (tenant, ended DESC, id),
    -- Read forwards by pages, backwards to forget the oldest.
    KEY {i}history_by_time (ended DESC, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Ids are drawn when an entry is inserted, not when its transaction commits.
CREATE TABLE IF NOT EXISTS {t}log (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- Random: tells an entry from another of the same id after a restored backup.
    tag BIGINT NOT NULL,
    kind VARBINARY(32) NOT NULL,
    at BIGINT NOT NULL,
    actor VARBINARY(1024) NOT NULL,
    tenant VARBINARY(128) NOT NULL,
    user_id VARBINARY(255),
    session_id BINARY(16)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- A transaction that inserts into the log shares one of these rows from before its first id until
-- its end.
CREATE TABLE IF NOT EXISTS {t}gates (
    gate TINYINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;
INSERT IGNORE INTO {t}gates VALUES (0), (1);

-- One row, which no change of sessions locks.
CREATE TABLE IF NOT EXISTS {t}state (
    only_row TINYINT NOT NULL PRIMARY KEY,
    -- The version and the digest of the procedures.
    procedures BIGINT NOT NULL,
    procedures_digest VARBINARY(16) NOT NULL,
    -- The gate of the transactions that begin now.
    gate TINYINT NOT NULL,
    -- Every transaction that drew an id up to this one has ended.
    settled BIGINT NOT NULL,
    -- The newest id when the gates changed the last time.
    reached BIGINT NOT NULL,
    -- Every entry up to this one was trimmed.
    trimmed BIGINT NOT NULL,
    -- The secret that all nodes share, or null until the first one has started.
    fleet_key BINARY(32)
) ENGINE = InnoDB;
INSERT IGNORE INTO {t}state VALUES (1, 0, '', 0, 0, 0, 0, NULL);

-- What is set at a place: a policy, a block, or both, as JSON.
CREATE TABLE IF NOT EXISTS {t}policies (
    tenant VARBINARY(128) NOT NULL,
    -- Empty for the place of a tenant or of the deployment.
    user_id VARBINARY(255) NOT NULL,
    policy VARBINARY(4096),
    block VARBINARY(4096),
    -- When the block ends by itself. Null for one that does not, and where there is none.
    blocked_until BIGINT,
    PRIMARY KEY (tenant, user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS {t}leases (
    name VARBINARY(128) NOT NULL PRIMARY KEY,
    holder VARBINARY(128) NOT NULL,
    -- By the clock of the database, UTC.
    until DATETIME(6) NOT NULL,
    -- Those that ran out are deleted, the oldest first.
    KEY {i}leases_by_until (until)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
