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
