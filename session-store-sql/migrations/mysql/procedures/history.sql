-- An ended session.
DROP PROCEDURE IF EXISTS {t}ended_1;
CREATE PROCEDURE {t}ended_1(p_id BINARY(16)) SQL SECURITY INVOKER
BEGIN
    SELECT id, CONVERT(tenant USING utf8mb4) AS tenant,
        CONVERT(user_id USING utf8mb4) AS user_id,
        CONVERT(device_kind USING utf8mb4) AS device_kind,
        CONVERT(client_id USING utf8mb4) AS client_id,
        CONVERT(ip_addresses USING utf8mb4) AS ip_addresses, signed_in, last_accessed, deadline,
        claimed, CONVERT(details USING utf8mb4) AS details, ended,
        CONVERT(cause USING utf8mb4) AS cause, CONVERT(actor USING utf8mb4) AS actor,
        CONVERT(ended_from USING utf8mb4) AS ended_from
        FROM {t}history WHERE id = p_id;
END;

-- Forgets sessions that ended longer ago than a time by this clock, the oldest first, or those of a user.
DROP PROCEDURE IF EXISTS {t}forget_1;
CREATE PROCEDURE {t}forget_1(
    p_older_than BIGINT, p_tenant VARBINARY(128), p_user VARBINARY(255), p_limit INT UNSIGNED
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_forgotten BIGINT;
    DECLARE EXIT HANDLER FOR SQLEXCEPTION
    BEGIN
        ROLLBACK;
        RESIGNAL;
    END;

    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    START TRANSACTION;
    IF p_older_than IS NULL THEN
        DELETE FROM {t}history WHERE user_id = p_user AND tenant = p_tenant LIMIT p_limit;
    ELSE
        DELETE FROM {t}history
            WHERE ended < TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - p_older_than
            ORDER BY ended, id DESC LIMIT p_limit;
    END IF;
    SET v_forgotten = ROW_COUNT();
    COMMIT;
    SELECT v_forgotten AS forgotten;
END;
