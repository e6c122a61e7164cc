-- name: check
-- One row without content. Raises an error if an event copied between two positions is in the archive.
SELECT indelible.complete_import(%(first)s::bigint, %(last)s::bigint, %(archived)s::bigint[])

-- name: copy
-- No rows: copies the events whose positions `reserve` has reserved.
COPY indelible.events (
    position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at, erasure
)
FROM STDIN (FORMAT BINARY)

-- name: find_existing
-- One row: existing_count, last_position, duplicates.
SELECT existing_count, last_position, duplicates
FROM indelible.find_imported_events(
    stream_names => %(names)s::text[],
    stream_numbers => %(numbers)s::integer[],
    new_versions => %(versions)s::bigint[],
    new_ids => %(ids)s::uuid[],
    new_types => %(types)s::text[],
    new_data => %(data)s::jsonb[],
    new_metadata => %(metadata)s::jsonb[],
    new_tags => %(tags)s::jsonb[],
    new_valid_at => %(valid_at)s::timestamptz[],
    new_recorded_at => %(recorded_at)s::timestamptz[],
    after_position => %(after)s::bigint
)

-- name: reserve
-- One row: outcome, details, recorded_at, stream_ids, last_versions, first_position, positions.
SELECT outcome, details, recorded_at, stream_ids, last_versions, first_position, positions
FROM indelible.reserve_import(
    stream_names => %(names)s::text[],
    stream_channels => %(channels)s::text[],
    stream_counts => %(counts)s::bigint[],
    stream_versions => %(versions)s::bigint[],
    event_ids => %(ids)s::uuid[],
    tags => %(tags)s::text[],
    tag_events => %(tag_events)s::integer[],
    latest => %(latest)s::timestamptz,
    life_cycles => %(life_cycles)s::jsonb
)
