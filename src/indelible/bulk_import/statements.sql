-- name: check
-- One row without meaning: an error where an event copied between two positions is in the archive.
SELECT indelible.complete_import(%(first)s::bigint, %(last)s::bigint, %(archived)s::bigint[])

-- name: copy
-- No rows: takes the events whose places import_begin has secured.
COPY indelible.events (
    position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at, erasure
)
FROM STDIN (FORMAT BINARY)

-- name: find_existing
-- One row: known, last_position, duplicates.
SELECT known, last_position, duplicates
FROM indelible.find_imported_events(
    %(names)s::text[],
    %(numbers)s::integer[],
    %(versions)s::bigint[],
    %(ids)s::uuid[],
    %(types)s::text[],
    %(data)s::jsonb[],
    %(metadata)s::jsonb[],
    %(tags)s::jsonb[],
    %(valid_at)s::timestamptz[],
    %(recorded_at)s::timestamptz[],
    %(after)s::bigint
)

-- name: reserve
-- One row: outcome, facts, taken_at, stream_ids, last_versions, first_position, positions.
SELECT outcome, facts, taken_at, stream_ids, last_versions, first_position, positions
FROM indelible.reserve_import(
    %(names)s::text[],
    %(channels)s::text[],
    %(counts)s::bigint[],
    %(versions)s::bigint[],
    %(ids)s::uuid[],
    %(tags)s::text[],
    %(tag_places)s::integer[],
    %(latest)s::timestamptz,
    %(lives)s::jsonb
)
