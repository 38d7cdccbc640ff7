-- Times are microseconds since the Unix epoch, UTC. An empty tenant stands for none.

CREATE TABLE {t}meta (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Tells this log from that of another database.
    incarnation text NOT NULL,
    -- All log entries of transactions up to this one, and up to this number, have been trimmed.
    trimmed_xid xid8 NOT NULL DEFAULT '0',
    trimmed_seq bigint NOT NULL DEFAULT 0
);
INSERT INTO {t}meta (incarnation) VALUES (gen_random_uuid()::text);

CREATE TABLE {t}users (
    tenant text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    -- The number of the user's newest log entry.
    version bigint NOT NULL,
    PRIMARY KEY (tenant, user_id)
);

-- Last accessed is written all day: room in the pages, and no index on it, keep those updates
-- within their page.
CREATE TABLE {t}sessions (
    id bytea NOT NULL PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    device_kind text COLLATE "C" NOT NULL,
    device_info text,
    client_id text COLLATE "C",
    -- Separated by commas, newest last.
    ip_addresses text NOT NULL,
    signed_in bigint NOT NULL,
    last_accessed bigint NOT NULL,
    authenticated_at bigint NOT NULL,
    absolute_expiry bigint,
    data text,
    token_current bytea NOT NULL,
    token_family bytea NOT NULL,
    token_retired bytea,
    token_retired_at bigint
) WITH (fillfactor = 80);

CREATE INDEX {i}sessions_by_user ON {t}sessions (user_id, tenant, signed_in DESC, id);
CREATE INDEX {i}sessions_by_tenant ON {t}sessions (tenant, signed_in DESC, id);
CREATE INDEX {i}sessions_by_time ON {t}sessions (signed_in DESC, id);
CREATE INDEX {i}sessions_by_client ON {t}sessions (client_id, signed_in DESC, id)
    WHERE client_id IS NOT NULL;
CREATE INDEX {i}sessions_by_expiry ON {t}sessions (absolute_expiry)
    WHERE absolute_expiry IS NOT NULL;

-- Numbers are not in the order of commits; the transaction's id tells a reader what it has not
-- seen yet.
CREATE TABLE {t}log (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- Random: tells an entry from another of the same number after a restored backup.
    tag bigint NOT NULL DEFAULT (random() * 9007199254740991)::bigint,
    kind text NOT NULL,
    at bigint NOT NULL,
    actor text NOT NULL,
    tenant text NOT NULL,
    user_id text,
    session_id bytea
);
CREATE INDEX {i}log_by_xid ON {t}log (xid);

CREATE TABLE {t}policies (
    tenant text COLLATE "C" NOT NULL,
    -- Empty for the policy of a tenant or of the deployment.
    user_id text COLLATE "C" NOT NULL,
    policy text NOT NULL,
    PRIMARY KEY (tenant, user_id)
);

CREATE TABLE {t}leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    -- By the clock of the database.
    until timestamptz NOT NULL
);

-- Raises a user's version; a user without sessions is forgotten.
CREATE FUNCTION {t}raise_version(p_tenant text, p_user text, p_seq bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {t}users SET version = COALESCE(p_seq, version)
        WHERE tenant = p_tenant AND user_id = p_user;
    DELETE FROM {t}users WHERE tenant = p_tenant AND user_id = p_user
        AND NOT EXISTS (SELECT FROM {t}sessions WHERE tenant = p_tenant AND user_id = p_user);
END $$;

CREATE FUNCTION {t}append(
    p_kind text, p_at bigint, p_actor text, p_tenant text, p_user text, p_session bytea
) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO {t}log (kind, at, actor, tenant, user_id, session_id)
    VALUES (p_kind, p_at, p_actor, p_tenant, p_user, p_session) RETURNING seq
$$;

-- Applies a change to one user's sessions if the version still holds. Whoever changes a user's
-- sessions locks the user's row first.
CREATE FUNCTION {t}commit(
    p_tenant text, p_user text, p_expected bigint, p_changes jsonb, p_at bigint, p_actor text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_version bigint;
    v_change jsonb;
    v_id bytea;
    v_kind text;
    v_seq bigint;
BEGIN
    INSERT INTO {t}users (tenant, user_id, version) VALUES (p_tenant, p_user, 0)
        ON CONFLICT DO NOTHING;
    SELECT version INTO v_version FROM {t}users
        WHERE tenant = p_tenant AND user_id = p_user FOR UPDATE;
    IF v_version IS DISTINCT FROM p_expected OR EXISTS (
        SELECT FROM jsonb_array_elements(p_changes) AS change
        WHERE change ->> 'do' = 'rotate' AND NOT EXISTS (
            SELECT FROM {t}sessions WHERE id = decode(change ->> 'id', 'hex')
            AND tenant IS NOT DISTINCT FROM p_tenant
            AND user_id IS NOT DISTINCT FROM p_user)
    ) THEN
        PERFORM {t}raise_version(p_tenant, p_user, NULL);
        RETURN false;
    END IF;
    FOR v_change IN SELECT * FROM jsonb_array_elements(p_changes) LOOP
        v_id := decode(v_change ->> 'id', 'hex');
        v_kind := v_change ->> 'kind';
        CASE v_change ->> 'do'
        WHEN 'insert' THEN
            INSERT INTO {t}sessions VALUES (
                v_id, p_tenant, p_user, v_change ->> 'device_kind', v_change ->> 'device_info',
                v_change ->> 'client_id', v_change ->> 'ip_addresses',
                (v_change ->> 'signed_in')::bigint, (v_change ->> 'last_accessed')::bigint,
                (v_change ->> 'authenticated_at')::bigint,
                (v_change ->> 'absolute_expiry')::bigint, v_change ->> 'data',
                decode(v_change ->> 'token_current', 'hex'),
                decode(v_change ->> 'token_family', 'hex'),
                decode(v_change ->> 'token_retired', 'hex'),
                (v_change ->> 'token_retired_at')::bigint);
        WHEN 'end' THEN
            -- Not "=": the plan must go by the id, however many sessions the user has.
            DELETE FROM {t}sessions WHERE id = v_id
                AND tenant IS NOT DISTINCT FROM p_tenant
                AND user_id IS NOT DISTINCT FROM p_user;
            CONTINUE WHEN NOT FOUND;
        WHEN 'rotate' THEN
            UPDATE {t}sessions SET
                token_current = decode(v_change ->> 'token_current', 'hex'),
                token_retired = decode(v_change ->> 'token_retired', 'hex'),
                token_retired_at = (v_change ->> 'token_retired_at')::bigint,
                authenticated_at =
                    COALESCE((v_change ->> 'authenticated_at')::bigint, authenticated_at)
                WHERE id = v_id;
        WHEN 'tell' THEN
            CONTINUE WHEN NOT EXISTS (SELECT FROM {t}sessions WHERE id = v_id
                AND tenant IS NOT DISTINCT FROM p_tenant
                AND user_id IS NOT DISTINCT FROM p_user);
        END CASE;
        v_seq := {t}append(v_kind, p_at, p_actor, p_tenant, p_user, v_id);
    END LOOP;
    PERFORM {t}raise_version(p_tenant, p_user, v_seq);
    PERFORM pg_notify('{channel}', '');
    RETURN true;
END $$;

-- Ends those of the given sessions that exist and, where lines are given, are past one of them.
CREATE FUNCTION {t}end_sessions(
    p_ids bytea[], p_inactive_before bigint, p_expired_by bigint,
    p_kind text, p_at bigint, p_actor text
) RETURNS TABLE (id bytea, tenant text, user_id text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_user record;
    v_session record;
    v_seq bigint;
BEGIN
    -- Users before sessions, both in order: so nobody waits in a circle.
    FOR v_user IN
        SELECT u.tenant, u.user_id FROM {t}users AS u
        WHERE (u.tenant, u.user_id) IN
            (SELECT s.tenant, s.user_id FROM {t}sessions AS s WHERE s.id = ANY (p_ids))
        ORDER BY u.tenant, u.user_id FOR UPDATE
    LOOP
        v_seq := NULL;
        PERFORM FROM {t}sessions AS s
            WHERE s.id = ANY (p_ids) AND s.tenant IS NOT DISTINCT FROM v_user.tenant
            AND s.user_id IS NOT DISTINCT FROM v_user.user_id
            ORDER BY s.id FOR UPDATE;
        FOR v_session IN
            DELETE FROM {t}sessions AS s
            WHERE s.id = ANY (p_ids) AND s.tenant IS NOT DISTINCT FROM v_user.tenant
            AND s.user_id IS NOT DISTINCT FROM v_user.user_id
            AND (p_inactive_before IS NULL OR s.last_accessed < p_inactive_before
                OR s.absolute_expiry <= p_expired_by)
            RETURNING s.id
        LOOP
            v_seq := {t}append(
                p_kind, p_at, p_actor, v_user.tenant, v_user.user_id, v_session.id);
            id := v_session.id;
            tenant := v_user.tenant;
            user_id := v_user.user_id;
            RETURN NEXT;
        END LOOP;
        PERFORM {t}raise_version(v_user.tenant, v_user.user_id, v_seq);
    END LOOP;
    PERFORM pg_notify('{channel}', '');
END $$;

CREATE FUNCTION {t}set_policy(
    p_tenant text, p_user text, p_policy text, p_at bigint, p_actor text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_policy IS NULL THEN
        DELETE FROM {t}policies WHERE tenant = p_tenant AND user_id = p_user;
    ELSE
        INSERT INTO {t}policies VALUES (p_tenant, p_user, p_policy)
            ON CONFLICT (tenant, user_id) DO UPDATE SET policy = excluded.policy;
    END IF;
    PERFORM {t}append('policy_changed', p_at, p_actor, p_tenant, NULLIF(p_user, ''), NULL);
    PERFORM pg_notify('{channel}', '');
END $$;

-- The newest entry stays, and whatever a transaction that is still open may have to be told from.
CREATE FUNCTION {t}trim_log(p_before bigint, p_limit integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_xid xid8;
    v_count integer;
BEGIN
    PERFORM FROM {t}meta FOR UPDATE;
    -- Whole transactions from the oldest on, at least one entry and about the limit.
    SELECT max(xid) INTO v_xid FROM (
        SELECT xid FROM {t}log WHERE xid < (SELECT max(xid) FROM {t}log)
        AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid LIMIT p_limit) AS oldest
        WHERE NOT EXISTS (SELECT FROM {t}log AS young
            WHERE young.xid <= oldest.xid AND young.at >= p_before);
    IF v_xid IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE {t}meta SET trimmed_xid = v_xid,
        trimmed_seq = (SELECT max(seq) FROM {t}log WHERE xid <= v_xid);
    DELETE FROM {t}log WHERE xid <= v_xid;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
