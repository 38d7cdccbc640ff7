-- A node of an older version calls these beside a newer one. A procedure whose arguments, result or
-- meaning change gets a new name with the next number, and the old one stays for a release. Any
-- change raises PROCEDURES in migrate.rs, which applies all of them again.

-- Changes are procedures: each is one call and one transaction, so no lock waits for a network.
-- Locks are taken in one order: users, sessions by id, places, a gate. READ COMMITTED, because
-- REPEATABLE READ locks gaps, and two new users could deadlock. Where rows are locked by a list,
-- JSON_TABLE is in a subquery: MySQL refuses FOR UPDATE directly beside it. The LIMIT in such a
-- subquery keeps its order.

-- Applies a change to one user's sessions if the version still holds. An insert is a conflict where its
-- id exists already, where the history knows the id, and where its owner is blocked. A version is never
-- zero and never comes back.
DROP PROCEDURE IF EXISTS {t}commit_1;
CREATE PROCEDURE {t}commit_1(
    p_tenant VARBINARY(128), p_user VARBINARY(255), p_expected BIGINT,
    p_changes LONGTEXT CHARACTER SET utf8mb4, p_inserts INT, p_updates INT, p_ends INT,
    p_others INT, p_at BIGINT, p_actor VARBINARY(1024), p_from VARBINARY(256), p_history INT
) SQL SECURITY INVOKER
body: BEGIN
    DECLARE v_n, v_gate, v_there, v_updated, v_told, v_known, v_blocked INT DEFAULT 0;
    DECLARE v_what, v_kind VARBINARY(32);
    DECLARE v_id BINARY(16);
    DECLARE EXIT HANDLER FOR 1062
    BEGIN
        ROLLBACK;
        SELECT 0 AS done;
    END;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    IF p_expected = 0 THEN
        INSERT INTO {t}users (tenant, user_id, version)
            VALUES (p_tenant, p_user, UUID_SHORT() & 0xFFFFFFFFFFFFFF);
    ELSE
        UPDATE {t}users SET version = UUID_SHORT() & 0xFFFFFFFFFFFFFF
            WHERE tenant = p_tenant AND user_id = p_user AND version = p_expected;
        SET v_there = ROW_COUNT();
        IF p_updates + p_ends > 0 THEN
            SELECT COALESCE(SUM(step.what = 'update'), 0) INTO v_updated
                FROM (SELECT what, id FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
                    what VARCHAR(8) PATH '$.do',
                    id VARCHAR(32) PATH '$.id')) AS given ORDER BY id LIMIT 100) AS step
                STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(step.id)
                WHERE s.tenant = p_tenant AND s.user_id = p_user FOR UPDATE;
        END IF;
    END IF;
    IF p_expected <> 0 AND v_there = 0 OR v_updated <> p_updates THEN
        ROLLBACK;
        SELECT 0 AS done;
        LEAVE body;
    END IF;

    IF p_inserts > 0 THEN
        INSERT INTO {t}sessions (id, tenant, user_id, device_kind, client_id, ip_addresses,
                signed_in, last_accessed, deadline, claimed, details, due)
            SELECT UNHEX(step.id), p_tenant, p_user, step.device_kind, step.client_id,
                step.ip_addresses, step.signed_in, step.last_accessed, step.deadline, step.claimed,
                step.details, step.deadline
            FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
                what VARCHAR(8) PATH '$.do',
                id VARCHAR(32) PATH '$.id',
                device_kind VARCHAR(64) CHARACTER SET utf8mb4 PATH '$.device_kind',
                client_id VARCHAR(128) CHARACTER SET utf8mb4 PATH '$.client_id',
                ip_addresses VARCHAR(1024) PATH '$.ip_addresses',
                signed_in BIGINT PATH '$.signed_in',
                last_accessed BIGINT PATH '$.last_accessed',
                deadline BIGINT PATH '$.deadline',
                claimed TINYINT PATH '$.claimed',
                details LONGTEXT CHARACTER SET utf8mb4 PATH '$.details')) AS step
            WHERE step.what = 'insert';
        -- After the insert, which waits for a change that ends a session of the same id.
        SELECT COUNT(*) INTO v_known
            FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
                what VARCHAR(8) PATH '$.do',
                id VARCHAR(32) PATH '$.id')) AS step
            STRAIGHT_JOIN {t}history AS h ON h.id = UNHEX(step.id)
            WHERE step.what = 'insert';
    END IF;
    SELECT gate INTO v_gate FROM {t}state WHERE only_row = 1;
    SELECT COUNT(*) INTO v_there FROM {t}gates WHERE gate = v_gate LOCK IN SHARE MODE;
    -- Behind the gate, and without a lock: set_block commits the block first, and then waits until each
    -- gate was empty once. So this statement's snapshot has the block, or set_block waits for this change.
    IF p_inserts > 0 THEN
        SELECT COUNT(*) INTO v_blocked FROM {t}policies
            WHERE (tenant, user_id) IN (('', ''), (p_tenant, ''), (p_tenant, p_user))
                AND block IS NOT NULL AND (blocked_until IS NULL OR blocked_until >
                    TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)));
    END IF;
    IF v_known + v_blocked > 0 THEN
        ROLLBACK;
        SELECT 0 AS done;
        LEAVE body;
    END IF;
    -- Told is what happens to sessions that are there, in the order of the changes. One by one,
    -- because an INSERT of several rows at once draws more ids than it needs.
    WHILE v_n < p_inserts + p_updates + p_ends + p_others DO
        SET v_what = JSON_UNQUOTE(JSON_EXTRACT(p_changes, CONCAT('$[', v_n, '].do'))),
            v_kind = JSON_UNQUOTE(JSON_EXTRACT(p_changes, CONCAT('$[', v_n, '].kind'))),
            v_id = UNHEX(JSON_UNQUOTE(JSON_EXTRACT(p_changes, CONCAT('$[', v_n, '].id'))));
        SET v_there = 1;
        IF v_what <> 'insert' THEN
            SELECT COUNT(*) INTO v_there FROM {t}sessions
                WHERE id = v_id AND tenant = p_tenant AND user_id = p_user;
        END IF;
        IF v_what = 'update' THEN
            UPDATE {t}sessions SET
                details = JSON_UNQUOTE(JSON_EXTRACT(p_changes, CONCAT('$[', v_n, '].details'))),
                deadline = GREATEST(deadline, CAST(
                    JSON_EXTRACT(p_changes, CONCAT('$[', v_n, '].deadline')) AS SIGNED))
                WHERE id = v_id;
        END IF;
        IF v_there = 1 THEN
            INSERT INTO {t}log (tag, kind, at, actor, tenant, user_id, session_id) VALUES (
                FLOOR(RAND() * 9007199254740991), v_kind, p_at, p_actor, p_tenant, p_user, v_id);
            SET v_told = v_told + 1;
        END IF;
        SET v_n = v_n + 1;
    END WHILE;
    IF v_told = 0 THEN
        ROLLBACK;
        SELECT 1 AS done;
        LEAVE body;
    END IF;

    IF p_ends > 0 THEN
        IF p_history = 1 THEN
            -- An older record of its id, as a restored dump may have one, keeps no session from ending.
            REPLACE INTO {t}history (id, tenant, user_id, device_kind, client_id, ip_addresses,
                    signed_in, last_accessed, deadline, claimed, details, ended, cause, actor,
                    ended_from)
                SELECT s.id, s.tenant, s.user_id, s.device_kind, s.client_id, s.ip_addresses,
                    s.signed_in, s.last_accessed, s.deadline, s.claimed, s.details, p_at, step.cause,
                    p_actor, p_from
                FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
                    what VARCHAR(8) PATH '$.do',
                    id VARCHAR(32) PATH '$.id',
                    cause VARCHAR(32) PATH '$.kind')) AS step
                STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(step.id)
                WHERE step.what = 'end' AND s.tenant = p_tenant AND s.user_id = p_user;
        END IF;
        DELETE s FROM JSON_TABLE(p_changes, '$[*]' COLUMNS (
                what VARCHAR(8) PATH '$.do',
                id VARCHAR(32) PATH '$.id')) AS step
            STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(step.id)
            WHERE step.what = 'end' AND s.tenant = p_tenant AND s.user_id = p_user;
        IF NOT EXISTS (SELECT 1 FROM {t}sessions FORCE INDEX ({i}sessions_by_user)
            WHERE tenant = p_tenant AND user_id = p_user)
        THEN
            DELETE FROM {t}users WHERE tenant = p_tenant AND user_id = p_user;
        END IF;
    END IF;
    COMMIT;
    SELECT 1 AS done;
END;
