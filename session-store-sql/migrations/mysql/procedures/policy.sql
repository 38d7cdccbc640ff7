-- Sets a policy, or none, and tells the log.
DROP PROCEDURE IF EXISTS {t}set_policy_1;
CREATE PROCEDURE {t}set_policy_1(
    p_tenant VARBINARY(128), p_user VARBINARY(255), p_policy VARBINARY(4096), p_at BIGINT,
    p_actor VARBINARY(1024)
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
    INSERT INTO {t}policies (tenant, user_id, policy) VALUES (p_tenant, p_user, p_policy)
        ON DUPLICATE KEY UPDATE policy = p_policy;
    DELETE FROM {t}policies
        WHERE tenant = p_tenant AND user_id = p_user AND policy IS NULL AND block IS NULL;
    SELECT gate INTO v_gate FROM {t}state WHERE only_row = 1;
    SELECT COUNT(*) INTO v_there FROM {t}gates WHERE gate = v_gate LOCK IN SHARE MODE;
    INSERT INTO {t}log (tag, kind, at, actor, tenant, user_id) VALUES (
        FLOOR(RAND() * 9007199254740991), 'policy_changed', p_at, p_actor, p_tenant,
        NULLIF(p_user, ''));
    COMMIT;
END;

-- Sets a block, or none, and tells the log. A change that passed its gate before this has committed may
-- not have seen the block: the caller waits until both gates were empty.
DROP PROCEDURE IF EXISTS {t}set_block_1;
CREATE PROCEDURE {t}set_block_1(
    p_tenant VARBINARY(128), p_user VARBINARY(255), p_block VARBINARY(4096), p_until BIGINT,
    p_kind VARBINARY(32), p_at BIGINT, p_actor VARBINARY(1024)
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
    INSERT INTO {t}policies (tenant, user_id, block, blocked_until)
        VALUES (p_tenant, p_user, p_block, p_until)
        ON DUPLICATE KEY UPDATE block = p_block, blocked_until = p_until;
    DELETE FROM {t}policies
        WHERE tenant = p_tenant AND user_id = p_user AND policy IS NULL AND block IS NULL;
    SELECT gate INTO v_gate FROM {t}state WHERE only_row = 1;
    SELECT COUNT(*) INTO v_there FROM {t}gates WHERE gate = v_gate LOCK IN SHARE MODE;
    INSERT INTO {t}log (tag, kind, at, actor, tenant, user_id) VALUES (
        FLOOR(RAND() * 9007199254740991), p_kind, p_at, p_actor, p_tenant, NULLIF(p_user, ''));
    COMMIT;
END;
