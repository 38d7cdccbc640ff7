-- The log: how it is read and why nothing is missed is told in log.rs.

-- Reads entries from one on, and those of the ids that were open. The first row is the state and the
-- clock, in the columns of an entry. The first snapshot says how far to read, the second has all that it
-- depends on, and says how far the log that it has was trimmed.
DROP PROCEDURE IF EXISTS {t}read_log_1;
CREATE PROCEDURE {t}read_log_1(
    p_from BIGINT, p_open LONGTEXT CHARACTER SET utf8mb4, p_limit INT
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_settled, v_end BIGINT;

    SELECT settled, (SELECT COALESCE(MAX(id), 0) FROM {t}log)
        INTO v_settled, v_end FROM {t}state WHERE only_row = 1;
    -- A log that was emptied or restored apart from the state.
    SET v_settled = IF(v_settled > v_end, 0, v_settled);
    SELECT 0 AS part, v_settled AS seq,
        (SELECT MAX(trimmed) FROM {t}state WHERE only_row = 1) AS tag, NULL AS kind,
        TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS at, NULL AS actor,
        NULL AS tenant, NULL AS user_id, NULL AS session_id
    UNION ALL SELECT * FROM (
        SELECT 1 AS part, told.id AS seq, tag, CONVERT(kind USING utf8mb4), at,
            CONVERT(actor USING utf8mb4), CONVERT(tenant USING utf8mb4),
            CONVERT(user_id USING utf8mb4), session_id
        FROM JSON_TABLE(p_open, '$[*]' COLUMNS (id BIGINT PATH '$')) AS given
        STRAIGHT_JOIN {t}log AS told ON told.id = given.id ORDER BY told.id) AS late
    UNION ALL SELECT * FROM (
        SELECT 2 AS part, id AS seq, tag, CONVERT(kind USING utf8mb4), at,
            CONVERT(actor USING utf8mb4), CONVERT(tenant USING utf8mb4),
            CONVERT(user_id USING utf8mb4), session_id
        FROM {t}log WHERE id >= p_from AND id <= v_end ORDER BY id LIMIT p_limit) AS page;
END;

-- Where the log ends: the state with the clock, and every entry since the ids are settled, if those are
-- at most so many, else the newest one.
DROP PROCEDURE IF EXISTS {t}log_end_1;
CREATE PROCEDURE {t}log_end_1(p_most BIGINT) SQL SECURITY INVOKER
BEGIN
    DECLARE v_settled, v_trimmed, v_end BIGINT;

    SELECT settled, trimmed, (SELECT COALESCE(MAX(id), 0) FROM {t}log)
        INTO v_settled, v_trimmed, v_end FROM {t}state WHERE only_row = 1;
    SET v_settled = IF(v_settled > v_end, 0, v_settled);
    SELECT 0 AS part, v_settled AS seq, v_trimmed AS tag,
        TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS at
    UNION ALL SELECT * FROM (
        SELECT 2, id, tag, at FROM {t}log
        WHERE id <= v_end AND id >= IF(v_end - v_settled > p_most, v_end, LEAST(v_settled + 1, v_end))
        ORDER BY id) AS last;
END;

-- Tries to find that the transactions behind the gate that was closed last have ended. If so, closes
-- the other one, and answers which one was empty, else null. It never waits.
DROP PROCEDURE IF EXISTS {t}settle_1;
CREATE PROCEDURE {t}settle_1() SQL SECURITY INVOKER
BEGIN
    DECLARE v_gate, v_empty INT;
    DECLARE v_end BIGINT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    SELECT MAX(gate) INTO v_gate FROM {t}state WHERE only_row = 1 FOR UPDATE SKIP LOCKED;
    -- Every id up to this one was drawn before the gate is tried.
    SELECT COALESCE(MAX(id), 0) INTO v_end FROM {t}log;
    SELECT COUNT(*) INTO v_empty FROM {t}gates WHERE gate = 1 - v_gate FOR UPDATE SKIP LOCKED;
    IF v_empty = 1 THEN
        UPDATE {t}state SET settled = reached, reached = v_end, gate = 1 - v_gate
            WHERE only_row = 1;
    END IF;
    COMMIT;
    SELECT CAST(IF(v_empty = 1, 1 - v_gate, NULL) AS SIGNED) AS empty_gate;
END;

-- Deletes entries that are older than a time by this clock, from the first on, up to one that is not, or
-- to the last that is settled: an id after that may still come. That one stays, because a range locks what
-- follows it. Says how many went, and whether more could go if they were settled. Entries that were trimmed before are not looked for: where a snapshot of others is old,
-- they are still in the way.
DROP PROCEDURE IF EXISTS {t}trim_log_1;
CREATE PROCEDURE {t}trim_log_1(p_older_than BIGINT, p_limit INT UNSIGNED) SQL SECURITY INVOKER
body: BEGIN
    DECLARE v_before, v_trimmed, v_settled, v_newest, v_young, v_old, v_last BIGINT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    SET v_before = TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - p_older_than;
    -- The first alone and without a lock, because it is young nearly every time.
    SELECT MAX(trimmed) INTO v_trimmed FROM {t}state WHERE only_row = 1;
    SELECT MIN(id) INTO v_young
        FROM (SELECT id, at FROM {t}log WHERE id > v_trimmed ORDER BY id LIMIT 1) AS oldest
        WHERE at >= v_before;
    IF v_young IS NULL THEN
        SELECT MAX(trimmed), MAX(settled) INTO v_trimmed, v_settled
            FROM {t}state WHERE only_row = 1 FOR UPDATE;
        SELECT MAX(id) INTO v_newest FROM {t}log;
        SELECT COALESCE(MIN(id), v_newest) INTO v_young
            FROM (SELECT id, at FROM {t}log WHERE id > v_trimmed ORDER BY id LIMIT p_limit) AS oldest
            WHERE at >= v_before;
        -- A log that was emptied or restored apart from the state.
        SET v_settled = IF(v_settled > v_newest, 0, v_settled);
        SELECT MAX(id) INTO v_settled FROM {t}log WHERE id <= v_settled;
        SELECT MAX(id), MAX(IF(id < v_settled, id, NULL)) INTO v_old, v_last
            FROM (SELECT id FROM {t}log WHERE id > v_trimmed ORDER BY id LIMIT p_limit) AS oldest
            WHERE id < LEAST(v_young, v_newest);
    END IF;
    IF v_last IS NULL THEN
        ROLLBACK;
        SELECT 0 AS trimmed, CAST(v_old IS NOT NULL AS SIGNED) AS unsettled;
        LEAVE body;
    END IF;
    DELETE FROM {t}log WHERE id > v_trimmed AND id <= v_last;
    SET v_young = ROW_COUNT();
    UPDATE {t}state SET trimmed = v_last WHERE only_row = 1;
    COMMIT;
    SELECT v_young AS trimmed, CAST(v_old > v_last AS SIGNED) AS unsettled;
END;
