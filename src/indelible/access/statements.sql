-- name: create_token
SELECT id, name, grants::text, created_at, created_by, expires_at, revoked_at, last_used_at
FROM indelible.create_token(
    %(id)s::text, %(name)s::text, decode(%(hash)s::text, 'hex'), %(grants)s::jsonb,
    %(seconds)s::double precision
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
