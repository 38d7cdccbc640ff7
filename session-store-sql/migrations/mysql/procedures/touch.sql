-- Writes accesses back: the later times, claimed or not, the addresses merged. Answers which sessions
-- are gone.
DROP PROCEDURE IF EXISTS {t}touch_1;
CREATE PROCEDURE {t}touch_1(
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
            id VARCHAR(32) PATH '$.id')) AS each_access ORDER BY id LIMIT 1000) AS access
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(access.id) FOR UPDATE;
    UPDATE JSON_TABLE(p_touches, '$[*]' COLUMNS (
            id VARCHAR(32) PATH '$.id',
            at BIGINT PATH '$.at',
            deadline BIGINT PATH '$.deadline',
            claimed TINYINT PATH '$.claimed')) AS access
        STRAIGHT_JOIN {t}sessions AS s ON s.id = UNHEX(access.id)
        SET s.last_accessed = GREATEST(s.last_accessed, access.at),
            s.deadline = GREATEST(s.deadline, access.deadline),
            s.claimed = GREATEST(s.claimed, access.claimed);
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
