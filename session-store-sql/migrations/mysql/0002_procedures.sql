-- Changes as procedures: each is one call and one transaction, so no lock waits for a network.
-- Locks are taken in one order: users, sessions by their ids, the counter. READ COMMITTED, because
-- REPEATABLE READ locks gaps, and two new users could deadlock.

-- Applies a change to one user's sessions if the version still holds.
DROP PROCEDURE IF EXISTS {t}commit;
CREATE PROCEDURE {t}commit(
    p_tenant VARBINARY(128), p_user VARBINARY(128), p_expected BIGINT,
    p_changes LONGTEXT CHARACTER SET utf8mb4, p_at BIGINT, p_actor VARBINARY(160)
) SQL SECURITY INVOKER
body: BEGIN
    DECLARE v_over BOOLEAN DEFAULT FALSE;
    DECLARE v_version, v_first, v_seq BIGINT;
    DECLARE v_there INT;
    DECLARE v_do VARCHAR(8) CHARACTER SET ascii;
    DECLARE v_id BINARY(16);
    DECLARE v_kind VARBINARY(32);
    DECLARE v_device_kind VARBINARY(64);
    DECLARE v_device_info VARBINARY(256);
    DECLARE v_client_id VARBINARY(128);
    DECLARE v_ip_addresses VARBINARY(1024);
    DECLARE v_signed_in, v_last_accessed, v_authenticated_at, v_absolute_expiry BIGINT;
    DECLARE v_data VARBINARY(4096);
    DECLARE v_token_current, v_token_family, v_token_retired BINARY(32);
    DECLARE v_token_retired_at BIGINT;
    DECLARE known CURSOR FOR
        SELECT UNHEX(step.id) AS session_id, MAX(step.what) FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
            what VARCHAR(8) PATH '$.do', id VARCHAR(32) PATH '$.id')) AS step
        WHERE step.what <> 'insert' GROUP BY session_id ORDER BY session_id;
    DECLARE steps CURSOR FOR
        SELECT step.what, UNHEX(step.id), step.kind, step.device_kind, step.device_info,
            step.client_id, step.ip_addresses, step.signed_in, step.last_accessed,
            step.authenticated_at, step.absolute_expiry, step.data, UNHEX(step.token_current),
            UNHEX(step.token_family), UNHEX(step.token_retired), step.token_retired_at
        FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
            n FOR ORDINALITY,
            what VARCHAR(8) PATH '$.do',
            id VARCHAR(32) PATH '$.id',
            kind VARCHAR(32) PATH '$.kind',
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
        ORDER BY step.n;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;
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
    IF v_version <> p_expected THEN
        ROLLBACK;
        SELECT 0 AS done;
        LEAVE body;
    END IF;

    OPEN known;
    locking: LOOP
        FETCH known INTO v_id, v_do;
        IF v_over THEN
            LEAVE locking;
        END IF;
        SELECT COUNT(*) INTO v_there FROM {t}sessions
            WHERE id = v_id AND tenant = p_tenant AND user_id = p_user FOR UPDATE;
        IF v_do = 'rotate' AND v_there = 0 THEN
            ROLLBACK;
            SELECT 0 AS done;
            LEAVE body;
        END IF;
    END LOOP;
    CLOSE known;

    SELECT MAX(last) INTO v_first FROM {t}counter WHERE only_row = 1 FOR UPDATE;
    SET v_seq = v_first, v_over = FALSE;
    OPEN steps;
    applying: LOOP
        FETCH steps INTO v_do, v_id, v_kind, v_device_kind, v_device_info, v_client_id,
            v_ip_addresses, v_signed_in, v_last_accessed, v_authenticated_at, v_absolute_expiry,
            v_data, v_token_current, v_token_family, v_token_retired, v_token_retired_at;
        IF v_over THEN
            LEAVE applying;
        END IF;
        IF v_do = 'insert' THEN
            INSERT INTO {t}sessions VALUES (
                v_id, p_tenant, p_user, v_device_kind, v_device_info, v_client_id,
                v_ip_addresses, v_signed_in, v_last_accessed, v_authenticated_at,
                v_absolute_expiry, v_data, v_token_current, v_token_family, v_token_retired,
                v_token_retired_at);
        ELSE
            SELECT COUNT(*) INTO v_there FROM {t}sessions
                WHERE id = v_id AND tenant = p_tenant AND user_id = p_user FOR UPDATE;
            IF v_there = 0 THEN
                ITERATE applying;
            END IF;
            IF v_do = 'end' THEN
                DELETE FROM {t}sessions WHERE id = v_id;
            ELSEIF v_do = 'rotate' THEN
                UPDATE {t}sessions SET token_current = v_token_current,
                    token_retired = v_token_retired, token_retired_at = v_token_retired_at,
                    authenticated_at = COALESCE(v_authenticated_at, authenticated_at)
                    WHERE id = v_id;
            END IF;
        END IF;
        SET v_seq = v_seq + 1;
        INSERT INTO {t}log (seq, tag, kind, at, actor, tenant, user_id, session_id) VALUES (
            v_seq, FLOOR(RAND() * 9007199254740991), v_kind, p_at, p_actor, p_tenant, p_user,
            v_id);
    END LOOP;
    CLOSE steps;

    IF v_seq > v_first THEN
        UPDATE {t}counter SET last = v_seq WHERE only_row = 1;
        UPDATE {t}users SET version = v_seq WHERE tenant = p_tenant AND user_id = p_user;
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
    p_kind VARBINARY(32), p_at BIGINT, p_actor VARBINARY(160)
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_over BOOLEAN DEFAULT FALSE;
    DECLARE v_first, v_seq, v_version BIGINT;
    DECLARE v_there INT;
    DECLARE v_id BINARY(16);
    DECLARE v_tenant, v_user VARBINARY(128);
    DECLARE owners CURSOR FOR
        SELECT DISTINCT s.tenant, s.user_id
        FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
        ORDER BY s.tenant, s.user_id;
    DECLARE ids CURSOR FOR
        SELECT DISTINCT UNHEX(given.id) AS session_id
        FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
        ORDER BY session_id;
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
    locking_users: LOOP
        FETCH owners INTO v_tenant, v_user;
        IF v_over THEN
            LEAVE locking_users;
        END IF;
        SELECT MAX(version) INTO v_version FROM {t}users
            WHERE tenant = v_tenant AND user_id = v_user FOR UPDATE;
    END LOOP;
    CLOSE owners;

    SET v_over = FALSE;
    OPEN ids;
    locking_sessions: LOOP
        FETCH ids INTO v_id;
        IF v_over THEN
            LEAVE locking_sessions;
        END IF;
        SELECT COUNT(*) INTO v_there FROM {t}sessions WHERE id = v_id FOR UPDATE;
    END LOOP;
    CLOSE ids;

    SELECT MAX(last) INTO v_first FROM {t}counter WHERE only_row = 1 FOR UPDATE;
    SET v_seq = v_first, v_over = FALSE;
    OPEN ids;
    ending: LOOP
        FETCH ids INTO v_id;
        IF v_over THEN
            LEAVE ending;
        END IF;
        SELECT COUNT(*), MAX(tenant), MAX(user_id) INTO v_there, v_tenant, v_user
            FROM {t}sessions WHERE id = v_id AND (p_inactive_before IS NULL
                OR last_accessed < p_inactive_before OR absolute_expiry <= p_expired_by)
            FOR UPDATE;
        IF v_there = 0 THEN
            ITERATE ending;
        END IF;
        DELETE FROM {t}sessions WHERE id = v_id;
        SET v_seq = v_seq + 1;
        INSERT INTO {t}log (seq, tag, kind, at, actor, tenant, user_id, session_id) VALUES (
            v_seq, FLOOR(RAND() * 9007199254740991), p_kind, p_at, p_actor, v_tenant, v_user,
            v_id);
    END LOOP;
    CLOSE ids;

    IF v_seq > v_first THEN
        UPDATE {t}counter SET last = v_seq WHERE only_row = 1;
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
    DECLARE v_id BINARY(16);
    DECLARE v_at BIGINT;
    DECLARE v_new, v_known VARBINARY(1024);
    DECLARE v_address VARBINARY(64);
    DECLARE touches CURSOR FOR
        SELECT UNHEX(access.id) AS session_id, access.at, access.ips
        FROM JSON_TABLE(p_touches, '$[*]' COLUMNS (
            n FOR ORDINALITY,
            id VARCHAR(32) PATH '$.id',
            at BIGINT PATH '$.at',
            ips VARCHAR(1024) PATH '$.ips')) AS access
        ORDER BY session_id, access.n;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    OPEN touches;
    touching: LOOP
        FETCH touches INTO v_id, v_at, v_new;
        IF v_over THEN
            LEAVE touching;
        END IF;
        SELECT MAX(ip_addresses) INTO v_known FROM {t}sessions WHERE id = v_id FOR UPDATE;
        IF v_known IS NULL THEN
            ITERATE touching;
        END IF;
        WHILE v_new <> '' DO
            SET v_address = SUBSTRING_INDEX(v_new, ',', 1);
            SET v_new = SUBSTRING(v_new, LENGTH(v_address) + 2);
            SET v_known = REPLACE(CONCAT(',', v_known, ','), CONCAT(',', v_address, ','), ',');
            SET v_known = CONCAT_WS(',', NULLIF(TRIM(BOTH ',' FROM v_known), ''), v_address);
            SET v_known = SUBSTRING_INDEX(v_known, ',', -16);
        END WHILE;
        UPDATE {t}sessions SET last_accessed = GREATEST(last_accessed, v_at),
            ip_addresses = v_known WHERE id = v_id;
    END LOOP;
    CLOSE touches;
    SELECT UNHEX(access.id) AS id
        FROM JSON_TABLE(p_touches, '$[*]' COLUMNS (id VARCHAR(32) PATH '$.id')) AS access
        LEFT JOIN {t}sessions AS s ON s.id = UNHEX(access.id) WHERE s.id IS NULL;
    COMMIT;
END;

DROP PROCEDURE IF EXISTS {t}set_policy;
CREATE PROCEDURE {t}set_policy(
    p_tenant VARBINARY(128), p_user VARBINARY(128), p_policy VARBINARY(4096), p_at BIGINT,
    p_actor VARBINARY(160)
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
CREATE PROCEDURE {t}user(p_tenant VARBINARY(128), p_user VARBINARY(128)) SQL SECURITY INVOKER
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
