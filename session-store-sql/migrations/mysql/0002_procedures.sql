-- Changes as procedures: each is one call and one transaction, so no lock waits for a network.
-- Locks are taken in one order: users, sessions in the order given, the counter. READ COMMITTED,
-- because REPEATABLE READ locks gaps, and two new users could deadlock. Where rows are locked by a
-- list, JSON_TABLE is in a subquery: MySQL refuses FOR UPDATE directly beside it.

-- Applies a change to one user's sessions if the version still holds.
DROP PROCEDURE IF EXISTS {t}commit;
CREATE PROCEDURE {t}commit(
    p_tenant VARBINARY(128), p_user VARBINARY(255), p_expected BIGINT,
    p_changes LONGTEXT CHARACTER SET utf8mb4, p_at BIGINT, p_actor VARBINARY(260)
) SQL SECURITY INVOKER
body: BEGIN
    DECLARE v_version, v_first, v_told BIGINT;
    DECLARE v_there, v_rotated, v_to_rotate INT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    INSERT INTO {t}users (tenant, user_id, version) VALUES (p_tenant, p_user, 0)
        ON DUPLICATE KEY UPDATE version = version;
    SELECT MAX(version) INTO v_version FROM {t}users
        WHERE tenant = p_tenant AND user_id = p_user FOR UPDATE;
    -- Whoever is to be changed is locked before the counter.
    SELECT COUNT(*), COALESCE(SUM(step.what = 'rotate'), 0) INTO v_there, v_rotated
        FROM (SELECT what, id FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
            what VARCHAR(8) PATH '$.do',
            id VARCHAR(32) PATH '$.id')) AS given) AS step
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(step.id)
        WHERE s.tenant = p_tenant AND s.user_id = p_user FOR UPDATE;
    SELECT COUNT(*) INTO v_to_rotate
        FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (what VARCHAR(8) PATH '$.do')) AS step
        WHERE step.what = 'rotate';
    IF v_version <> p_expected OR v_rotated <> v_to_rotate THEN
        ROLLBACK;
        SELECT 0 AS done;
        LEAVE body;
    END IF;

    SELECT MAX(last) INTO v_first FROM {t}counter WHERE only_row = 1 FOR UPDATE;
    INSERT INTO {t}sessions (id, tenant, user_id, device_kind, device_info, client_id,
            ip_addresses, signed_in, last_accessed, authenticated_at, absolute_expiry, data,
            token_current, token_family, token_retired, token_retired_at)
        SELECT UNHEX(step.id), p_tenant, p_user, step.device_kind, step.device_info,
            step.client_id, step.ip_addresses, step.signed_in, step.last_accessed,
            step.authenticated_at, step.absolute_expiry, step.data, UNHEX(step.token_current),
            UNHEX(step.token_family), UNHEX(step.token_retired), step.token_retired_at
        FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
            what VARCHAR(8) PATH '$.do',
            id VARCHAR(32) PATH '$.id',
            device_kind VARCHAR(64) CHARACTER SET utf8mb4 PATH '$.device_kind',
            device_info VARCHAR(256) CHARACTER SET utf8mb4 PATH '$.device_info',
            client_id VARCHAR(128) CHARACTER SET utf8mb4 PATH '$.client_id',
            ip_addresses VARCHAR(1024) PATH '$.ip_addresses',
            signed_in BIGINT PATH '$.signed_in',
            last_accessed BIGINT PATH '$.last_accessed',
            authenticated_at BIGINT PATH '$.authenticated_at',
            absolute_expiry BIGINT PATH '$.absolute_expiry',
            data VARCHAR(4096) CHARACTER SET utf8mb4 PATH '$.data',
            token_current VARCHAR(64) PATH '$.token_current',
            token_family VARCHAR(64) PATH '$.token_family',
            token_retired VARCHAR(64) PATH '$.token_retired',
            token_retired_at BIGINT PATH '$.token_retired_at')) AS step
        WHERE step.what = 'insert';
    IF v_to_rotate > 0 THEN
        UPDATE JSON_TABLE(p_changes, '$[*]' COLUMNS (
                what VARCHAR(8) PATH '$.do',
                id VARCHAR(32) PATH '$.id',
                authenticated_at BIGINT PATH '$.authenticated_at',
                token_current VARCHAR(64) PATH '$.token_current',
                token_retired VARCHAR(64) PATH '$.token_retired',
                token_retired_at BIGINT PATH '$.token_retired_at')) AS step
            STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(step.id)
            SET s.token_current = UNHEX(step.token_current),
                s.token_retired = UNHEX(step.token_retired),
                s.token_retired_at = step.token_retired_at,
                s.authenticated_at = COALESCE(step.authenticated_at, s.authenticated_at)
            WHERE step.what = 'rotate';
    END IF;
    -- Told is what happens to sessions that are there, in the order of the changes.
    INSERT INTO {t}log (seq, tag, kind, at, actor, tenant, user_id, session_id)
        SELECT v_first + ROW_NUMBER() OVER (ORDER BY step.n),
            FLOOR(RAND() * 9007199254740991), step.kind, p_at, p_actor, s.tenant, s.user_id, s.id
        FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
            n FOR ORDINALITY,
            kind VARCHAR(32) PATH '$.kind',
            id VARCHAR(32) PATH '$.id')) AS step
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(step.id)
        WHERE s.tenant = p_tenant AND s.user_id = p_user;
    SET v_told = ROW_COUNT();
    IF v_told > 0 THEN
        DELETE s FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
                what VARCHAR(8) PATH '$.do',
                id VARCHAR(32) PATH '$.id')) AS step
            STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(step.id)
            WHERE step.what = 'end' AND s.tenant = p_tenant AND s.user_id = p_user;
        UPDATE {t}counter SET last = v_first + v_told WHERE only_row = 1;
        UPDATE {t}users SET version = v_first + v_told
            WHERE tenant = p_tenant AND user_id = p_user;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM {t}sessions WHERE tenant = p_tenant AND user_id = p_user) THEN
        DELETE FROM {t}users WHERE tenant = p_tenant AND user_id = p_user;
    END IF;
    COMMIT;
    SELECT 1 AS done;
END;

-- Ends those of the given sessions that exist and, where lines are given, are past one of them.
DROP PROCEDURE IF EXISTS {t}end_sessions;
CREATE PROCEDURE {t}end_sessions(
    p_ids LONGTEXT CHARACTER SET utf8mb4, p_inactive_before BIGINT, p_expired_by BIGINT,
    p_kind VARBINARY(32), p_at BIGINT, p_actor VARBINARY(260)
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_over BOOLEAN DEFAULT FALSE;
    DECLARE v_first, v_told, v_version BIGINT;
    DECLARE v_there INT;
    DECLARE v_tenant VARBINARY(128);
    DECLARE v_user VARBINARY(255);
    DECLARE owners CURSOR FOR
        SELECT DISTINCT s.tenant, s.user_id
        FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
        ORDER BY s.tenant, s.user_id;
    DECLARE raised CURSOR FOR
        SELECT tenant, user_id, MAX(seq) FROM {t}log WHERE seq > v_first
        GROUP BY tenant, user_id;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    OPEN owners;
    locking: LOOP
        FETCH owners INTO v_tenant, v_user;
        IF v_over THEN
            LEAVE locking;
        END IF;
        SELECT MAX(version) INTO v_version FROM {t}users
            WHERE tenant = v_tenant AND user_id = v_user FOR UPDATE;
    END LOOP;
    CLOSE owners;
    SELECT COUNT(*) INTO v_there
        FROM (SELECT id FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (
            id VARCHAR(32) PATH '$')) AS each_id) AS given
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id) FOR UPDATE;

    SELECT MAX(last) INTO v_first FROM {t}counter WHERE only_row = 1 FOR UPDATE;
    INSERT INTO {t}log (seq, tag, kind, at, actor, tenant, user_id, session_id)
        SELECT v_first + ROW_NUMBER() OVER (ORDER BY s.id), FLOOR(RAND() * 9007199254740991),
            p_kind, p_at, p_actor, s.tenant, s.user_id, s.id
        FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
        WHERE p_inactive_before IS NULL OR s.last_accessed < p_inactive_before
            OR s.absolute_expiry <= p_expired_by;
    SET v_told = ROW_COUNT();
    IF v_told > 0 THEN
        DELETE s FROM {t}log AS told STRAIGHT_JOIN {t}sessions AS s ON s.id = told.session_id
            WHERE told.seq > v_first;
        UPDATE {t}counter SET last = v_first + v_told WHERE only_row = 1;
        SET v_over = FALSE;
        OPEN raised;
        raising: LOOP
            FETCH raised INTO v_tenant, v_user, v_version;
            IF v_over THEN
                LEAVE raising;
            END IF;
            UPDATE {t}users SET version = v_version WHERE tenant = v_tenant AND user_id = v_user;
            IF NOT EXISTS (SELECT 1 FROM {t}sessions
                WHERE tenant = v_tenant AND user_id = v_user)
            THEN
                DELETE FROM {t}users WHERE tenant = v_tenant AND user_id = v_user;
            END IF;
        END LOOP;
        CLOSE raised;
    END IF;
    -- The entries say who was ended.
    SELECT session_id AS id, CONVERT(tenant USING utf8mb4) AS tenant,
        CONVERT(user_id USING utf8mb4) AS user_id FROM {t}log WHERE seq > v_first ORDER BY seq;
    COMMIT;
END;

-- Writes accesses back: the later time, the addresses merged. Answers which sessions are gone.
DROP PROCEDURE IF EXISTS {t}touch;
CREATE PROCEDURE {t}touch(
    p_touches LONGTEXT CHARACTER SET utf8mb4
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_over BOOLEAN DEFAULT FALSE;
    DECLARE v_there INT;
    DECLARE v_id BINARY(16);
    DECLARE v_new, v_known VARBINARY(1024);
    DECLARE v_address VARBINARY(64);
    DECLARE moved CURSOR FOR
        SELECT UNHEX(access.id), access.ips FROM JSON_TABLE(p_touches, '$[*]' COLUMNS (
            n FOR ORDINALITY,
            id VARCHAR(32) PATH '$.id',
            ips VARCHAR(1024) PATH '$.ips')) AS access
        WHERE access.ips <> '' ORDER BY access.n;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    SELECT COUNT(*) INTO v_there
        FROM (SELECT id FROM JSON_TABLE(p_touches, '$[*]' COLUMNS (
            id VARCHAR(32) PATH '$.id')) AS each_access) AS access
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(access.id) FOR UPDATE;
    UPDATE (SELECT UNHEX(access.id) AS session_id, MAX(access.at) AS at
            FROM JSON_TABLE(p_touches, '$[*]' COLUMNS (
                id VARCHAR(32) PATH '$.id',
                at BIGINT PATH '$.at')) AS access
            GROUP BY session_id) AS latest
        STRAIGHT_JOIN {t}sessions AS s ON s.id = latest.session_id
        SET s.last_accessed = GREATEST(s.last_accessed, latest.at);
    OPEN moved;
    moving: LOOP
        FETCH moved INTO v_id, v_new;
        IF v_over THEN
            LEAVE moving;
        END IF;
        SELECT MAX(ip_addresses) INTO v_known FROM {t}sessions WHERE id = v_id FOR UPDATE;
        WHILE v_new <> '' AND v_known IS NOT NULL DO
            SET v_address = SUBSTRING_INDEX(v_new, ',', 1);
            SET v_new = SUBSTRING(v_new, LENGTH(v_address) + 2);
            SET v_known = REPLACE(CONCAT(',', v_known, ','), CONCAT(',', v_address, ','), ',');
            SET v_known = CONCAT_WS(',', NULLIF(TRIM(BOTH ',' FROM v_known), ''), v_address);
            SET v_known = SUBSTRING_INDEX(v_known, ',', -16);
        END WHILE;
        UPDATE {t}sessions SET ip_addresses = v_known WHERE id = v_id;
    END LOOP;
    CLOSE moved;
    SELECT UNHEX(access.id) AS id
        FROM JSON_TABLE(p_touches, '$[*]' COLUMNS (id VARCHAR(32) PATH '$.id')) AS access
        LEFT JOIN {t}sessions AS s ON s.id = UNHEX(access.id) WHERE s.id IS NULL;
    COMMIT;
END;

DROP PROCEDURE IF EXISTS {t}set_policy;
CREATE PROCEDURE {t}set_policy(
    p_tenant VARBINARY(128), p_user VARBINARY(255), p_policy VARBINARY(4096), p_at BIGINT,
    p_actor VARBINARY(260)
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_seq BIGINT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    IF p_policy IS NULL THEN
        DELETE FROM {t}policies WHERE tenant = p_tenant AND user_id = p_user;
    ELSE
        INSERT INTO {t}policies (tenant, user_id, policy) VALUES (p_tenant, p_user, p_policy)
            ON DUPLICATE KEY UPDATE policy = p_policy;
    END IF;
    SELECT MAX(last) + 1 INTO v_seq FROM {t}counter WHERE only_row = 1 FOR UPDATE;
    INSERT INTO {t}log (seq, tag, kind, at, actor, tenant, user_id) VALUES (
        v_seq, FLOOR(RAND() * 9007199254740991), 'policy_changed', p_at, p_actor, p_tenant,
        NULLIF(p_user, ''));
    UPDATE {t}counter SET last = v_seq WHERE only_row = 1;
    COMMIT;
END;

-- Reads whose parts have to fit together take the version first. MariaDB makes a snapshot while others
-- commit: it may have what depends on a change and not the change. The next snapshot has both, so
-- what is read after the version is never older than it, and a newer one only makes a commit conflict.

-- The version, the sessions and the policies of a user: three kinds of rows in the columns of the
-- second.
DROP PROCEDURE IF EXISTS {t}user;
CREATE PROCEDURE {t}user(p_tenant VARBINARY(128), p_user VARBINARY(255)) SQL SECURITY INVOKER
BEGIN
    DECLARE v_version BIGINT;

    SELECT MAX(version) INTO v_version FROM {t}users
        WHERE tenant = p_tenant AND user_id = p_user;
    SELECT 1 AS part, NULL AS id, NULL AS device_kind, NULL AS client_id,
        COALESCE(v_version, 0) AS signed_in, NULL AS last_accessed, NULL AS absolute_expiry,
        NULL AS policy
    UNION ALL SELECT 2, id, CONVERT(device_kind USING utf8mb4),
        CONVERT(client_id USING utf8mb4), signed_in, last_accessed, absolute_expiry, NULL
        FROM {t}sessions WHERE tenant = p_tenant AND user_id = p_user
    UNION ALL SELECT 3, NULL, CONVERT(tenant USING utf8mb4), CONVERT(user_id USING utf8mb4),
        NULL, NULL, NULL, CONVERT(policy USING utf8mb4)
        FROM {t}policies
        WHERE (tenant, user_id) IN (('', ''), (p_tenant, ''), (p_tenant, p_user));
END;

-- A session and its user's version.
DROP PROCEDURE IF EXISTS {t}load;
CREATE PROCEDURE {t}load(p_id BINARY(16)) SQL SECURITY INVOKER
BEGIN
    DECLARE v_version BIGINT;

    SELECT MAX(u.version) INTO v_version FROM {t}sessions AS s
        STRAIGHT_JOIN {t}users AS u ON u.tenant = s.tenant AND u.user_id = s.user_id
        WHERE s.id = p_id;
    SELECT id, CONVERT(tenant USING utf8mb4) AS tenant,
        CONVERT(user_id USING utf8mb4) AS user_id,
        CONVERT(device_kind USING utf8mb4) AS device_kind,
        CONVERT(device_info USING utf8mb4) AS device_info,
        CONVERT(client_id USING utf8mb4) AS client_id,
        CONVERT(ip_addresses USING utf8mb4) AS ip_addresses, signed_in, last_accessed,
        authenticated_at, absolute_expiry, CONVERT(data USING utf8mb4) AS data,
        token_current, token_family, token_retired, token_retired_at,
        COALESCE(v_version, 0) AS version
        FROM {t}sessions WHERE id = p_id;
END;
