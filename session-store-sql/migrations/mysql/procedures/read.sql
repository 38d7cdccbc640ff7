-- Reads whose parts have to fit together take the version first. MariaDB makes a snapshot while others
-- commit: it may have what depends on a change and not the change. The next snapshot has both, so
-- what is read after the version is never older than it, and a newer one only makes a commit conflict.

-- The version, the sessions and the places of a user: three kinds of rows in the columns of the second
-- and the third.
DROP PROCEDURE IF EXISTS {t}user_1;
CREATE PROCEDURE {t}user_1(p_tenant VARBINARY(128), p_user VARBINARY(255)) SQL SECURITY INVOKER
BEGIN
    DECLARE v_version BIGINT;

    SELECT MAX(version) INTO v_version FROM {t}users
        WHERE tenant = p_tenant AND user_id = p_user;
    SELECT 1 AS part, NULL AS id, NULL AS device_kind, NULL AS client_id,
        COALESCE(v_version, 0) AS signed_in, NULL AS last_accessed, NULL AS deadline, NULL AS claimed,
        NULL AS policy, NULL AS block
    UNION ALL SELECT 2, id, CONVERT(device_kind USING utf8mb4),
        CONVERT(client_id USING utf8mb4), signed_in, last_accessed, deadline, claimed, NULL, NULL
        FROM {t}sessions FORCE INDEX ({i}sessions_by_user)
        WHERE tenant = p_tenant AND user_id = p_user
    UNION ALL SELECT 3, NULL, CONVERT(tenant USING utf8mb4), CONVERT(user_id USING utf8mb4),
        NULL, NULL, NULL, NULL, CONVERT(policy USING utf8mb4), CONVERT(block USING utf8mb4)
        FROM {t}policies
        WHERE (tenant, user_id) IN (('', ''), (p_tenant, ''), (p_tenant, p_user));
END;

-- A session and its user's version.
DROP PROCEDURE IF EXISTS {t}load_1;
CREATE PROCEDURE {t}load_1(p_id BINARY(16)) SQL SECURITY INVOKER
BEGIN
    DECLARE v_version BIGINT;

    SELECT MAX(u.version) INTO v_version FROM {t}sessions AS s
        STRAIGHT_JOIN {t}users AS u ON u.tenant = s.tenant AND u.user_id = s.user_id
        WHERE s.id = p_id;
    SELECT id, CONVERT(tenant USING utf8mb4) AS tenant,
        CONVERT(user_id USING utf8mb4) AS user_id,
        CONVERT(device_kind USING utf8mb4) AS device_kind,
        CONVERT(client_id USING utf8mb4) AS client_id,
        CONVERT(ip_addresses USING utf8mb4) AS ip_addresses, signed_in, last_accessed, deadline,
        claimed, CONVERT(details USING utf8mb4) AS details, COALESCE(v_version, 0) AS version
        FROM {t}sessions WHERE id = p_id;
END;
