-- The functions of the store, apart from the scripts that make its tables. A store that opens the
-- database applies this file again when the version below is newer than the one that the table
-- `meta` notes, or the same with another text. An older store leaves newer functions alone.
--
-- Rules, so that an older node goes on working beside a newer one:
-- 1. Raise the version with each release that changes this file.
-- 2. A function keeps its name only as long as its parameters, its result and their meaning stay.
--    Where one of them changes, the new function gets a new name with a version, such as
--    `commit_2`, and the old one stays for one release.
-- 3. A function that no supported release calls is dropped here:
--    `DROP FUNCTION IF EXISTS {t}commit(text, text, bigint, jsonb, bigint, text);`
--
-- Version: 1

-- Applies a change to one user's sessions if the version still holds; false if it does not. A
-- change that conflicts fails with unique_violation, which undoes the others.
--
-- Order of locks, here and below: users by tenant and id, then sessions by id.
CREATE OR REPLACE FUNCTION {t}commit(
    p_tenant text, p_user text, p_expected bigint, p_changes jsonb, p_at bigint, p_actor text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_change jsonb;
    v_id bytea;
    v_applied boolean := false;
    v_inserted boolean := false;
    v_ended boolean := false;
BEGIN
    IF p_expected = 0 THEN
        INSERT INTO {t}users (tenant, user_id, version)
            VALUES (p_tenant, p_user, nextval('{t}log_numbers')) ON CONFLICT DO NOTHING;
    ELSE
        UPDATE {t}users SET version = nextval('{t}log_numbers')
            WHERE tenant = p_tenant AND user_id = p_user AND version = p_expected;
    END IF;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF jsonb_array_length(p_changes) > 1 THEN
        PERFORM FROM {t}sessions WHERE id IN (
            SELECT decode(change ->> 'id', 'hex') FROM jsonb_array_elements(p_changes) AS change
            WHERE change ->> 'do' IN ('end', 'rotate'))
            ORDER BY id FOR UPDATE;
    END IF;
    FOR v_change IN SELECT * FROM jsonb_array_elements(p_changes) LOOP
        v_id := decode(v_change ->> 'id', 'hex');
        CASE v_change ->> 'do'
        WHEN 'insert' THEN
            -- A table that is partitioned by user cannot have a constraint on the id alone.
            IF EXISTS (SELECT FROM {t}sessions WHERE id = v_id) THEN
                RAISE unique_violation USING MESSAGE = 'a session has this id already';
            END IF;
            INSERT INTO {t}sessions (
                id, tenant, user_id, device_kind, device_info, client_id, ip_addresses,
                signed_in, last_accessed, authenticated_at, absolute_expiry, data,
                token_current, token_family, token_retired, token_retired_at)
            VALUES (
                v_id, p_tenant, p_user, v_change ->> 'device_kind', v_change ->> 'device_info',
                v_change ->> 'client_id', v_change ->> 'ip_addresses',
                (v_change ->> 'signed_in')::bigint, (v_change ->> 'last_accessed')::bigint,
                (v_change ->> 'authenticated_at')::bigint,
                (v_change ->> 'absolute_expiry')::bigint, v_change ->> 'data',
                decode(v_change ->> 'token_current', 'hex'),
                decode(v_change ->> 'token_family', 'hex'),
                decode(v_change ->> 'token_retired', 'hex'),
                (v_change ->> 'token_retired_at')::bigint);
            v_inserted := true;
        WHEN 'end' THEN
            -- Not "=": the plan must go by the id, however many sessions the user has.
            DELETE FROM {t}sessions WHERE id = v_id
                AND tenant IS NOT DISTINCT FROM p_tenant
                AND user_id IS NOT DISTINCT FROM p_user;
            CONTINUE WHEN NOT FOUND;
            v_ended := true;
        WHEN 'rotate' THEN
            UPDATE {t}sessions SET
                token_current = decode(v_change ->> 'token_current', 'hex'),
                token_family = decode(v_change ->> 'token_family', 'hex'),
                token_retired = decode(v_change ->> 'token_retired', 'hex'),
                token_retired_at = (v_change ->> 'token_retired_at')::bigint,
                authenticated_at =
                    COALESCE((v_change ->> 'authenticated_at')::bigint, authenticated_at)
                WHERE id = v_id
                AND tenant IS NOT DISTINCT FROM p_tenant
                AND user_id IS NOT DISTINCT FROM p_user;
            IF NOT FOUND THEN
                RAISE unique_violation USING MESSAGE = 'the session to rotate is gone';
            END IF;
        WHEN 'tell' THEN
            CONTINUE WHEN NOT EXISTS (SELECT FROM {t}sessions WHERE id = v_id
                AND tenant IS NOT DISTINCT FROM p_tenant
                AND user_id IS NOT DISTINCT FROM p_user);
        END CASE;
        INSERT INTO {t}log (kind, at, actor, tenant, user_id, session_id)
            VALUES (v_change ->> 'kind', p_at, p_actor, p_tenant, p_user, v_id);
        v_applied := true;
    END LOOP;
    IF NOT v_applied AND p_expected <> 0 THEN
        UPDATE {t}users SET version = p_expected WHERE tenant = p_tenant AND user_id = p_user;
    ELSIF NOT v_inserted AND (v_ended OR p_expected = 0) THEN
        -- A user without sessions is forgotten.
        DELETE FROM {t}users WHERE tenant = p_tenant AND user_id = p_user
            AND NOT EXISTS (SELECT FROM {t}sessions WHERE tenant = p_tenant AND user_id = p_user);
    END IF;
    RETURN true;
END $$;

-- Ends those of the given sessions that exist and, where lines are given, are past one of them.
CREATE OR REPLACE FUNCTION {t}end_sessions(
    p_ids bytea[], p_inactive_before bigint, p_expired_by bigint,
    p_kind text, p_at bigint, p_actor text
) RETURNS TABLE (id bytea, tenant text, user_id text) LANGUAGE plpgsql
-- A plan that was made while the table was small must not walk it later.
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_ids bytea[];
    v_tenants text[];
    v_users text[];
BEGIN
    SELECT array_agg(locked_id) INTO v_ids FROM (
        SELECT chosen.ids FROM {t}users AS u JOIN (
            SELECT s.tenant, s.user_id, array_agg(s.id) AS ids FROM {t}sessions AS s
            WHERE s.id = ANY (p_ids) GROUP BY s.tenant, s.user_id) AS chosen
        ON u.tenant = chosen.tenant AND u.user_id = chosen.user_id
        ORDER BY u.tenant, u.user_id FOR UPDATE OF u) AS locked, unnest(locked.ids) AS locked_id;

    WITH found AS (
        SELECT s.id FROM {t}sessions AS s WHERE s.id = ANY (v_ids) ORDER BY s.id FOR UPDATE),
    gone AS (
        DELETE FROM {t}sessions AS s USING found WHERE s.id = found.id
        AND (p_inactive_before IS NULL OR s.last_accessed < p_inactive_before
            OR s.absolute_expiry <= p_expired_by)
        RETURNING s.id, s.tenant, s.user_id),
    logged AS (
        INSERT INTO {t}log (kind, at, actor, tenant, user_id, session_id)
        SELECT p_kind, p_at, p_actor, tenant, user_id, id FROM gone
        RETURNING seq, tenant, user_id),
    raised AS (
        UPDATE {t}users AS u SET version = newest.seq
        FROM (SELECT tenant, user_id, max(seq) AS seq FROM logged GROUP BY tenant, user_id) AS newest
        WHERE u.tenant = newest.tenant AND u.user_id = newest.user_id)
    SELECT array_agg(id), array_agg(tenant), array_agg(user_id)
        INTO v_ids, v_tenants, v_users FROM gone;

    -- Users without sessions are forgotten.
    DELETE FROM {t}users AS u
        USING (SELECT DISTINCT tenant, user_id FROM unnest(v_tenants, v_users)
            AS ended (tenant, user_id)) AS ended
        WHERE u.tenant = ended.tenant AND u.user_id = ended.user_id
        AND NOT EXISTS (SELECT FROM {t}sessions AS s
            WHERE s.tenant = u.tenant AND s.user_id = u.user_id);

    RETURN QUERY SELECT * FROM unnest(v_ids, v_tenants, v_users);
END $$;

CREATE OR REPLACE FUNCTION {t}set_policy(
    p_tenant text, p_user text, p_policy text, p_at bigint, p_actor text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Where there is nothing to delete, the number would be drawn first.
    PERFORM pg_current_xact_id();
    IF p_policy IS NULL THEN
        DELETE FROM {t}policies WHERE tenant = p_tenant AND user_id = p_user;
    ELSE
        INSERT INTO {t}policies (tenant, user_id, policy) VALUES (p_tenant, p_user, p_policy)
            ON CONFLICT (tenant, user_id) DO UPDATE SET policy = excluded.policy;
    END IF;
    INSERT INTO {t}log (kind, at, actor, tenant, user_id)
        VALUES ('policy_changed', p_at, p_actor, p_tenant, NULLIF(p_user, ''));
END $$;

-- Deletes a prefix of the log, in the order in which readers see it. The newest entry stays, and
-- so does an entry that a transaction which is still open may have to be told from.
CREATE OR REPLACE FUNCTION {t}trim_log(p_before bigint, p_limit integer)
RETURNS integer LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    v_seqs bigint[];
    v_xid xid8;
BEGIN
    PERFORM FROM {t}meta FOR UPDATE;
    SELECT array_agg(seq), max(xid) INTO v_seqs, v_xid FROM (
        SELECT seq, xid, bool_and(
            at < p_before AND xid < pg_snapshot_xmin(pg_current_snapshot())
            AND seq < (SELECT max(seq) FROM {t}log)) OVER (ORDER BY seq) AS goes
        FROM (SELECT seq, xid, at FROM {t}log ORDER BY seq LIMIT p_limit) AS oldest) AS prefix
        WHERE goes;
    IF v_seqs IS NULL THEN
        RETURN 0;
    END IF;
    -- Not by a range: an entry below that has been committed since then was not looked at.
    DELETE FROM {t}log WHERE seq = ANY (v_seqs);
    UPDATE {t}meta SET trimmed_xid = GREATEST(trimmed_xid, v_xid),
        trimmed_seq = GREATEST(trimmed_seq, v_seqs[cardinality(v_seqs)]);
    RETURN cardinality(v_seqs);
END $$;
