-- name: create_token
SELECT id, name, grants::text, created_at, created_by, expires_at, revoked_at, last_used_at
FROM indelible.create_token(
    token_id => %(id)s::text,
    token_name => %(name)s::text,
    token_hash => decode(%(hash)s::text, 'hex'),
    token_grants => %(grants)s::jsonb,
    seconds => %(seconds)s::double precision
)

-- name: tokens
SELECT id, name, grants::text, created_at, created_by, expires_at, revoked_at, last_used_at
FROM indelible.list_tokens()
ORDER BY created_at, id

-- name: revoke_token
SELECT id, name, grants::text, created_at, created_by, expires_at, revoked_at, last_used_at
FROM indelible.revoke_token(%(id)s::text)

-- name: find_token
-- One row, or none: the hash, and whether the token is valid, and was used within the last minute.
SELECT name, encode(hash, 'hex'), grants::text, is_valid, is_recent
FROM indelible.find_token(%(id)s::text)

-- name: note_use
SELECT indelible.note_token_use(%(id)s::text)

-- name: create_session
-- When it expires; null if the token is not valid.
SELECT indelible.create_session(
    decode(%(hash)s::text, 'hex'), %(token)s::text, %(for_once)s::boolean,
    %(seconds)s::double precision
)

-- name: find_session
-- One row, or none: the token, its rights, and whether it was used within the last minute.
SELECT token_id, name, grants::text, is_recent
FROM indelible.find_session(decode(%(hash)s::text, 'hex'))

-- name: redeem_ticket
-- One row, or none: the token and its rights.
SELECT token_id, name, grants::text
FROM indelible.redeem_ticket(decode(%(hash)s::text, 'hex'))

-- name: end_session
SELECT indelible.end_session(decode(%(hash)s::text, 'hex'))

-- name: valid_access
-- One row for each that is valid.
SELECT indelible.valid_access(%(tokens)s::text[], %(sessions)s::text[])
