-- Ends those of the given sessions that exist and, where these are given, whose deadline passed longer ago
-- than that by this clock, and which were last accessed before that.
DROP PROCEDURE IF EXISTS {t}end_1;
CREATE PROCEDURE {t}end_1(
    p_ids LONGTEXT CHARACTER SET utf8mb4, p_overdue BIGINT, p_accessed_before BIGINT,
    p_cause VARBINARY(32), p_at BIGINT, p_actor VARBINARY(1024), p_from VARBINARY(256),
    p_history INT
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_over BOOLEAN DEFAULT FALSE;
    DECLARE v_first, v_tag, v_line BIGINT;
    DECLARE v_gate, v_there INT;
    DECLARE v_tenant VARBINARY(128);
    DECLARE v_user VARBINARY(255);
    -- What is read of the log is read without locks: entries of other transactions lie between. Each user is
    -- looked for once: what has just been deleted is passed over each time.
    DECLARE without_sessions CURSOR FOR
        SELECT told.tenant, told.user_id
        FROM (SELECT DISTINCT tenant, user_id FROM {t}log WHERE id >= v_first AND tag = v_tag) AS told
        LEFT JOIN {t}sessions AS s FORCE INDEX ({i}sessions_by_user)
            ON s.user_id = told.user_id AND s.tenant = told.tenant
        WHERE s.id IS NULL;
    DECLARE CONTINUE HANDLER FOR NOT FOUND SET v_over = TRUE;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    SELECT COUNT(*) INTO v_there
        FROM (SELECT s.tenant, s.user_id
            FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
            STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
            GROUP BY s.tenant, s.user_id ORDER BY s.tenant, s.user_id LIMIT 1000) AS owner
        STRAIGHT_JOIN {t}users AS u ON u.tenant = owner.tenant AND u.user_id = owner.user_id
        FOR UPDATE;
    SELECT COUNT(*) INTO v_there
        FROM (SELECT id FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (
            id VARCHAR(32) PATH '$')) AS each_id ORDER BY id LIMIT 1000) AS given
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id) FOR UPDATE;

    -- What is locked is not touched any more, so every statement below finds the same sessions.
    SET v_line = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - p_overdue;
    SELECT gate INTO v_gate FROM {t}state WHERE only_row = 1;
    SELECT COUNT(*) INTO v_there FROM {t}gates WHERE gate = v_gate LOCK IN SHARE MODE;
    -- The entries of this call: no other has both the tag and such an id.
    SET v_tag = FLOOR(RAND() * 9007199254740991);
    INSERT INTO {t}log (tag, kind, at, actor, tenant, user_id, session_id)
        SELECT v_tag, p_cause, p_at, p_actor, s.tenant, s.user_id, s.id
        FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
        WHERE (v_line IS NULL OR s.deadline < v_line)
        AND (p_accessed_before IS NULL OR s.last_accessed < p_accessed_before);
    IF ROW_COUNT() > 0 THEN
        SET v_first = LAST_INSERT_ID();
        UPDATE (SELECT s.tenant, s.user_id
                FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
                STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
                WHERE (v_line IS NULL OR s.deadline < v_line)
                AND (p_accessed_before IS NULL OR s.last_accessed < p_accessed_before)
                GROUP BY s.tenant, s.user_id) AS owner
            STRAIGHT_JOIN {t}users AS u ON u.tenant = owner.tenant AND u.user_id = owner.user_id
            SET u.version = UUID_SHORT() & 0xFFFFFFFFFFFFFF;
        IF p_history = 1 THEN
            -- As in the commit, an older record of the id is replaced.
            REPLACE INTO {t}history (id, tenant, user_id, device_kind, client_id, ip_addresses,
                    signed_in, last_accessed, deadline, claimed, details, ended, cause, actor,
                    ended_from)
                SELECT s.id, s.tenant, s.user_id, s.device_kind, s.client_id, s.ip_addresses,
                    s.signed_in, s.last_accessed, s.deadline, s.claimed, s.details, p_at, p_cause,
                    p_actor, p_from
                FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
                STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
                WHERE (v_line IS NULL OR s.deadline < v_line)
                AND (p_accessed_before IS NULL OR s.last_accessed < p_accessed_before);
        END IF;
        DELETE s FROM JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
            STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
            WHERE (v_line IS NULL OR s.deadline < v_line)
            AND (p_accessed_before IS NULL OR s.last_accessed < p_accessed_before);
        OPEN without_sessions;
        forgetting: LOOP
            FETCH without_sessions INTO v_tenant, v_user;
            IF v_over THEN
                LEAVE forgetting;
            END IF;
            DELETE FROM {t}users WHERE tenant = v_tenant AND user_id = v_user;
        END LOOP;
        CLOSE without_sessions;
    END IF;
    -- What is in use again is looked at when it is due.
    IF v_line IS NOT NULL THEN
        UPDATE JSON_TABLE(p_ids, '$[*]' COLUMNS (id VARCHAR(32) PATH '$')) AS given
            STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(given.id)
            SET s.due = s.deadline WHERE s.due < s.deadline;
    END IF;
    -- The entries say which sessions were ended.
    SELECT session_id AS id, CONVERT(tenant USING utf8mb4) AS tenant,
        CONVERT(user_id USING utf8mb4) AS user_id
        FROM {t}log AS told WHERE told.id >= v_first AND tag = v_tag ORDER BY told.id;
    COMMIT;
END;
