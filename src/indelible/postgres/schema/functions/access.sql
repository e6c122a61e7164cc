-- Tokens of servers (docs/explanation/access.md).

CREATE OR REPLACE FUNCTION indelible.create_token(
    token_id text, token_name text, token_hash bytea, token_grants jsonb, seconds double precision
)
RETURNS SETOF indelible.tokens
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO indelible.tokens (id, name, hash, grants, created_by, expires_at)
    VALUES (
        token_id, token_name, token_hash, token_grants, session_user,
        clock_timestamp() + make_interval(secs => seconds)
    )
    RETURNING *
$$;
COMMENT ON FUNCTION indelible.create_token(text, text, bytea, jsonb, double precision) IS
    'Stores a token with the hash of its secret. It expires after some seconds; null for never.';

CREATE OR REPLACE FUNCTION indelible.list_tokens()
RETURNS SETOF indelible.tokens
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT * FROM indelible.tokens
$$;
COMMENT ON FUNCTION indelible.list_tokens() IS 'All tokens, also expired and revoked ones.';

CREATE OR REPLACE FUNCTION indelible.revoke_token(token_id text)
RETURNS SETOF indelible.tokens
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE indelible.tokens SET revoked_at = coalesce(revoked_at, clock_timestamp())
    WHERE id = token_id
    RETURNING *
$$;
COMMENT ON FUNCTION indelible.revoke_token(text) IS
    'Revokes a token. Revoking it again changes nothing. No row without such a token.';

CREATE OR REPLACE FUNCTION indelible.find_token(
    token_id text,
    OUT name text,
    OUT hash bytea,
    OUT grants jsonb,
    OUT is_valid boolean,
    OUT is_recent boolean
)
RETURNS SETOF record
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        tokens.name,
        tokens.hash,
        tokens.grants,
        tokens.revoked_at IS NULL AND coalesce(tokens.expires_at > clock_timestamp(), true),
        coalesce(tokens.last_used_at > clock_timestamp() - interval '1 minute', false)
    FROM indelible.tokens
    WHERE tokens.id = token_id
$$;
COMMENT ON FUNCTION indelible.find_token(text) IS
    'A token: the hash of its secret, its rights, whether it is valid and whether it was used within a minute.';

CREATE OR REPLACE FUNCTION indelible.note_token_use(token_id text)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE indelible.tokens SET last_used_at = clock_timestamp() WHERE id = token_id
$$;
COMMENT ON FUNCTION indelible.note_token_use(text) IS 'Notes that a server has accepted a token.';

CREATE OR REPLACE FUNCTION indelible.create_session(
    session_hash bytea, session_token text, for_once boolean, seconds double precision
)
RETURNS timestamptz
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM indelible.sessions
    WHERE hash IN (
        SELECT expired.hash
        FROM indelible.sessions AS expired
        WHERE expired.expires_at <= clock_timestamp()
        LIMIT 1000
        FOR UPDATE SKIP LOCKED
    );
    INSERT INTO indelible.sessions (hash, token_id, is_ticket, expires_at)
    SELECT
        session_hash,
        tokens.id,
        for_once,
        least(tokens.expires_at, clock_timestamp() + make_interval(secs => seconds))
    FROM indelible.tokens
    WHERE tokens.id = session_token
        AND tokens.revoked_at IS NULL
        AND coalesce(tokens.expires_at > clock_timestamp(), true)
    RETURNING expires_at
$$;
COMMENT ON FUNCTION indelible.create_session(bytea, text, boolean, double precision) IS
    'Stores a session of a token, or a ticket (for_once); returns when it expires, or null if the token is not valid.';

CREATE OR REPLACE FUNCTION indelible.find_session(
    session_hash bytea,
    OUT token_id text,
    OUT name text,
    OUT grants jsonb,
    OUT is_recent boolean
)
RETURNS SETOF record
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        tokens.id,
        tokens.name,
        tokens.grants,
        coalesce(tokens.last_used_at > clock_timestamp() - interval '1 minute', false)
    FROM indelible.sessions
    JOIN indelible.tokens ON tokens.id = sessions.token_id
    WHERE sessions.hash = session_hash
        AND NOT sessions.is_ticket
        AND sessions.expires_at > clock_timestamp()
        AND tokens.revoked_at IS NULL
$$;
COMMENT ON FUNCTION indelible.find_session(bytea) IS
    'The token of a valid session, its rights, and whether it was used within a minute.';

CREATE OR REPLACE FUNCTION indelible.redeem_ticket(
    ticket_hash bytea, OUT token_id text, OUT name text, OUT grants jsonb
)
RETURNS SETOF record
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM indelible.sessions
    USING indelible.tokens
    WHERE sessions.hash = ticket_hash
        AND sessions.is_ticket
        AND sessions.expires_at > clock_timestamp()
        AND tokens.id = sessions.token_id
        AND tokens.revoked_at IS NULL
    RETURNING tokens.id, tokens.name, tokens.grants
$$;
COMMENT ON FUNCTION indelible.redeem_ticket(bytea) IS
    'Deletes a valid ticket; returns its token and rights. No row if another was faster.';

CREATE OR REPLACE FUNCTION indelible.end_session(session_hash bytea)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM indelible.sessions WHERE hash = session_hash AND NOT is_ticket
$$;
COMMENT ON FUNCTION indelible.end_session(bytea) IS 'Ends a session.';

CREATE OR REPLACE FUNCTION indelible.valid_access(token_ids text[], session_hashes text[])
RETURNS SETOF text
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tokens.id
    FROM indelible.tokens
    WHERE tokens.id = ANY (token_ids)
        AND tokens.revoked_at IS NULL
        AND coalesce(tokens.expires_at > clock_timestamp(), true)
    UNION ALL
    SELECT given.hash
    FROM unnest(session_hashes) AS given (hash)
    JOIN indelible.sessions ON sessions.hash = decode(given.hash, 'hex')
    JOIN indelible.tokens ON tokens.id = sessions.token_id
    WHERE sessions.expires_at > clock_timestamp() AND tokens.revoked_at IS NULL
$$;
COMMENT ON FUNCTION indelible.valid_access(text[], text[]) IS
    'Those of the tokens (their ids) and sessions (their hashes in hex) that are valid now.';
