-- Sets a policy, or none, and tells the log.
DROP PROCEDURE IF EXISTS {t}set_policy_1;
CREATE PROCEDURE {t}set_policy_1(
    p_tenant VARBINARY(128), p_user VARBINARY(255), p_policy VARBINARY(4096), p_at BIGINT,
    p_actor VARBINARY(260)
) SQL SECURITY INVOKER
BEGIN
    DECLARE v_gate, v_there INT;
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
    SELECT gate INTO v_gate FROM {t}state WHERE only_row = 1;
    SELECT COUNT(*) INTO v_there FROM {t}gates WHERE gate = v_gate LOCK IN SHARE MODE;
    INSERT INTO {t}log (tag, kind, at, actor, tenant, user_id) VALUES (
        FLOOR(RAND() * 9007199254740991), 'policy_changed', p_at, p_actor, p_tenant,
        NULLIF(p_user, ''));
    COMMIT;
END;
