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

-- Now, in microseconds since the Unix epoch.
CREATE OR REPLACE FUNCTION {t}clock() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

-- The key of the advisory lock of a place. The identifier of the table tells the places of this store
-- from those of another one in the database.
CREATE OR REPLACE FUNCTION {t}place_lock(p_tenant text, p_user text)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT hashtextextended(p_user,
        hashtextextended(p_tenant, '{t}policies'::regclass::oid::bigint))
$$;

-- Applies a change to one user's sessions if the version still holds; false if it does not. A
-- change that conflicts fails with unique_violation, which undoes the others.
--
-- Order of locks, here and below: users by tenant and id, then sessions by id, then places.
CREATE OR REPLACE FUNCTION {t}commit(
    p_tenant text, p_user text, p_expected bigint, p_changes jsonb, p_at bigint, p_actor text,
    p_from text, p_keep boolean
) RETURNS boolean LANGUAGE plpgsql
-- A plan that was made while the table was small must not walk it later. A plan for the ids of each call
-- costs more than it gains.
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET lock_timeout = '5s' AS $$
DECLARE
    -- The sessions to change, by what is done to them, and in the end those that were. Null for none.
    v_insert bytea[];
    v_update bytea[];
    v_end bytea[];
    v_tell bytea[];
    v_done bytea[];
    v_count bigint;
    v_conflict text;
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
    SELECT array_agg(id) FILTER (WHERE what = 'insert'),
            array_agg(id) FILTER (WHERE what = 'update'),
            array_agg(id) FILTER (WHERE what = 'end'),
            array_agg(id) FILTER (WHERE what = 'tell')
        INTO v_insert, v_update, v_end, v_tell
        FROM (SELECT decode(change ->> 'id', 'hex') AS id, change ->> 'do' AS what
            FROM jsonb_array_elements(p_changes) AS change) AS changes;
    IF cardinality(v_update || v_end) > 1 THEN
        PERFORM FROM {t}sessions WHERE id = ANY (v_update || v_end) ORDER BY id FOR UPDATE;
    END IF;

    -- Not "=", here and below: the plan must go by the id, however many sessions the user has.
    IF v_tell IS NOT NULL THEN
        SELECT array_agg(id) INTO v_tell FROM {t}sessions WHERE id = ANY (v_tell)
            AND tenant IS NOT DISTINCT FROM p_tenant AND user_id IS NOT DISTINCT FROM p_user;
    END IF;
    IF v_end IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM {t}sessions WHERE id = ANY (v_end)
            AND tenant IS NOT DISTINCT FROM p_tenant AND user_id IS NOT DISTINCT FROM p_user
            RETURNING *),
        kept AS (
            INSERT INTO {t}history (
                id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in,
                last_accessed, deadline, claimed, details, ended, cause, actor, ended_from)
            SELECT gone.id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in,
                last_accessed, deadline, claimed, details, p_at, kind, p_actor, p_from
            FROM gone JOIN (SELECT decode(change ->> 'id', 'hex') AS id, change ->> 'kind' AS kind
                FROM jsonb_array_elements(p_changes) AS change) AS changes ON changes.id = gone.id
            WHERE p_keep
            -- An older record of its id, as a restored dump may have one, keeps no session from ending.
            ON CONFLICT (id) DO UPDATE SET
                tenant = excluded.tenant, user_id = excluded.user_id,
                device_kind = excluded.device_kind, client_id = excluded.client_id,
                ip_addresses = excluded.ip_addresses, signed_in = excluded.signed_in,
                last_accessed = excluded.last_accessed, deadline = excluded.deadline,
                claimed = excluded.claimed, details = excluded.details, ended = excluded.ended,
                cause = excluded.cause, actor = excluded.actor, ended_from = excluded.ended_from)
        SELECT array_agg(id) INTO v_end FROM gone;
    END IF;
    IF v_update IS NOT NULL THEN
        UPDATE {t}sessions AS s
            SET details = changes.details, deadline = GREATEST(s.deadline, changes.deadline)
            FROM jsonb_to_recordset(p_changes) AS changes (id text, details text, deadline bigint)
            WHERE s.id = ANY (v_update) AND s.id = decode(changes.id, 'hex')
            AND tenant IS NOT DISTINCT FROM p_tenant AND user_id IS NOT DISTINCT FROM p_user;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count < cardinality(v_update) THEN
            RAISE unique_violation USING MESSAGE = 'a session to update is gone';
        END IF;
    END IF;
    IF v_insert IS NOT NULL THEN
        -- A block waits for the sign-ins that are under way. They do not wait for one another.
        PERFORM pg_advisory_xact_lock_shared({t}place_lock('', '')),
            pg_advisory_xact_lock_shared({t}place_lock(p_tenant, '')),
            pg_advisory_xact_lock_shared({t}place_lock(p_tenant, p_user));
        -- A statement of its own: it sees what was committed before the locks were granted. A table that
        -- is partitioned by user cannot have a constraint on the id alone.
        SELECT CASE
            WHEN EXISTS (SELECT FROM {t}policies
                WHERE (tenant, user_id) IN (('', ''), (p_tenant, ''), (p_tenant, p_user))
                AND block IS NOT NULL AND (blocked_until IS NULL OR blocked_until > {t}clock()))
            THEN 'sign-ins are blocked'
            WHEN EXISTS (SELECT FROM {t}sessions WHERE id = ANY (v_insert))
                OR EXISTS (SELECT FROM {t}history WHERE id = ANY (v_insert))
            THEN 'a session has, or had, this id already' END
            INTO v_conflict;
        IF v_conflict IS NOT NULL THEN
            RAISE unique_violation USING MESSAGE = v_conflict;
        END IF;
        INSERT INTO {t}sessions (
            id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in, last_accessed,
            deadline, claimed, details, due)
        SELECT decode(id, 'hex'), p_tenant, p_user, device_kind, client_id, ip_addresses, signed_in,
            last_accessed, deadline, claimed, details, deadline
        FROM jsonb_to_recordset(p_changes) AS changes (
            "do" text, id text, device_kind text, client_id text, ip_addresses text,
            signed_in bigint, last_accessed bigint, deadline bigint, claimed bigint, details text)
        WHERE "do" = 'insert';
    END IF;

    v_done := v_insert || v_update || v_end || v_tell;
    IF v_done IS NOT NULL THEN
        INSERT INTO {t}log (kind, at, actor, tenant, user_id, session_id)
            SELECT change ->> 'kind', p_at, p_actor, p_tenant, p_user, decode(change ->> 'id', 'hex')
            FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS changes (change, place)
            WHERE decode(change ->> 'id', 'hex') = ANY (v_done) ORDER BY place;
    ELSIF p_expected <> 0 THEN
        UPDATE {t}users SET version = p_expected WHERE tenant = p_tenant AND user_id = p_user;
    END IF;
    IF v_insert IS NULL AND (v_end IS NOT NULL OR p_expected = 0) THEN
        -- A user without sessions is forgotten.
        DELETE FROM {t}users WHERE tenant = p_tenant AND user_id = p_user
            AND NOT EXISTS (SELECT FROM {t}sessions WHERE user_id = p_user
                AND (user_id, tenant) >= (p_user, p_tenant) AND (user_id, tenant) <= (p_user, p_tenant));
    END IF;
    RETURN true;
END $$;

-- Ends those of the given sessions that exist and, where these are given, whose deadline passed
-- longer ago, and which were last accessed before.
CREATE OR REPLACE FUNCTION {t}end_sessions(
    p_ids bytea[], p_overdue bigint, p_accessed_before bigint, p_cause text, p_at bigint,
    p_actor text, p_from text, p_keep boolean
) RETURNS TABLE (id bytea, tenant text, user_id text) LANGUAGE plpgsql
-- A plan that was made while the table was small must not walk it later. A plan for the ids of each call
-- costs more than it gains.
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    v_ids bytea[];
    v_tenants text[];
    v_users text[];
    v_line bigint;
BEGIN
    -- After a restore of tables of different moments, a session may be there without its user's row.
    PERFORM FROM {t}users AS u JOIN (
            SELECT s.tenant, s.user_id FROM {t}sessions AS s
            WHERE s.id = ANY (p_ids) GROUP BY s.tenant, s.user_id) AS chosen
        ON u.tenant = chosen.tenant AND u.user_id = chosen.user_id
        ORDER BY u.tenant, u.user_id FOR UPDATE OF u;
    v_line := {t}clock() - p_overdue;

    WITH found AS (
        SELECT s.id FROM {t}sessions AS s WHERE s.id = ANY (p_ids) ORDER BY s.id FOR UPDATE),
    gone AS (
        DELETE FROM {t}sessions AS s USING found WHERE s.id = found.id
        AND (p_overdue IS NULL OR s.deadline < v_line)
        AND (p_accessed_before IS NULL OR s.last_accessed < p_accessed_before) RETURNING s.*),
    kept AS (
        INSERT INTO {t}history (
            id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in,
            last_accessed, deadline, claimed, details, ended, cause, actor, ended_from)
        SELECT id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in,
            last_accessed, deadline, claimed, details, p_at, p_cause, p_actor, p_from
        FROM gone WHERE p_keep
        -- As in the commit, an older record of the id is replaced.
        ON CONFLICT (id) DO UPDATE SET
            tenant = excluded.tenant, user_id = excluded.user_id,
            device_kind = excluded.device_kind, client_id = excluded.client_id,
            ip_addresses = excluded.ip_addresses, signed_in = excluded.signed_in,
            last_accessed = excluded.last_accessed, deadline = excluded.deadline,
            claimed = excluded.claimed, details = excluded.details, ended = excluded.ended,
            cause = excluded.cause, actor = excluded.actor, ended_from = excluded.ended_from),
    logged AS (
        INSERT INTO {t}log (kind, at, actor, tenant, user_id, session_id)
        SELECT p_cause, p_at, p_actor, tenant, user_id, id FROM gone
        RETURNING seq, tenant, user_id),
    raised AS (
        UPDATE {t}users AS u SET version = newest.seq
        FROM (SELECT tenant, user_id, max(seq) AS seq FROM logged GROUP BY tenant, user_id) AS newest
        WHERE u.tenant = newest.tenant AND u.user_id = newest.user_id)
    SELECT array_agg(id), array_agg(tenant), array_agg(user_id)
        INTO v_ids, v_tenants, v_users FROM gone;

    -- What is in use again is looked at when it is due.
    IF p_overdue IS NOT NULL AND cardinality(p_ids) > COALESCE(cardinality(v_ids), 0) THEN
        UPDATE {t}sessions AS s SET due = deadline WHERE s.id = ANY (p_ids) AND due < deadline;
    END IF;
    -- Users without sessions are forgotten.
    DELETE FROM {t}users AS u
        USING (SELECT DISTINCT tenant, user_id FROM unnest(v_tenants, v_users)
            AS ended (tenant, user_id)) AS ended
        WHERE u.tenant = ended.tenant AND u.user_id = ended.user_id
        AND NOT EXISTS (SELECT FROM {t}sessions AS s
            WHERE s.user_id = u.user_id AND (s.user_id, s.tenant) >= (u.user_id, u.tenant)
            AND (s.user_id, s.tenant) <= (u.user_id, u.tenant));

    RETURN QUERY SELECT * FROM unnest(v_ids, v_tenants, v_users);
END $$;

CREATE OR REPLACE FUNCTION {t}set_policy(
    p_tenant text, p_user text, p_policy text, p_at bigint, p_actor text
) RETURNS void LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
BEGIN
    INSERT INTO {t}policies (tenant, user_id, policy) VALUES (p_tenant, p_user, p_policy)
        ON CONFLICT (tenant, user_id) DO UPDATE SET policy = excluded.policy;
    DELETE FROM {t}policies WHERE tenant = p_tenant AND user_id = p_user
        AND policy IS NULL AND block IS NULL;
    INSERT INTO {t}log (kind, at, actor, tenant, user_id)
        VALUES ('policy_changed', p_at, p_actor, p_tenant, NULLIF(p_user, ''));
END $$;

-- Once the transaction has ended, every commit there either has ended, too, or sees the block.
CREATE OR REPLACE FUNCTION {t}set_block(
    p_tenant text, p_user text, p_block text, p_until bigint, p_kind text, p_at bigint, p_actor text
) RETURNS void LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({t}place_lock(p_tenant, p_user));
    INSERT INTO {t}policies (tenant, user_id, block, blocked_until)
        VALUES (p_tenant, p_user, p_block, p_until)
        ON CONFLICT (tenant, user_id)
        DO UPDATE SET block = excluded.block, blocked_until = excluded.blocked_until;
    DELETE FROM {t}policies WHERE tenant = p_tenant AND user_id = p_user
        AND policy IS NULL AND block IS NULL;
    INSERT INTO {t}log (kind, at, actor, tenant, user_id)
        VALUES (p_kind, p_at, p_actor, p_tenant, NULLIF(p_user, ''));
END $$;

-- Deletes a prefix of the log, in the order in which readers see it. The newest entry stays, and
-- so does an entry that a transaction which is still open may have to be told from.
CREATE OR REPLACE FUNCTION {t}trim_log(p_older_than bigint, p_limit integer)
RETURNS integer LANGUAGE plpgsql
-- Without walks, the one row of `meta` seems to cost so much that each call would be compiled.
SET enable_seqscan = off SET jit = off SET lock_timeout = '5s' AS $$
DECLARE
    v_before bigint := {t}clock() - p_older_than;
    v_seqs bigint[];
    v_xid xid8;
    v_foreign bigint;
BEGIN
    SELECT foreign_to INTO v_foreign FROM {t}meta FOR UPDATE;
    SELECT array_agg(seq), max(xid) FILTER (WHERE seq > v_foreign) INTO v_seqs, v_xid FROM (
        SELECT seq, xid, bool_and(
            at < v_before AND (xid < pg_snapshot_xmin(pg_current_snapshot()) OR seq <= v_foreign)
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
