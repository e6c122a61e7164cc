-- name: append
-- One row: outcome, last_version, last_position, recorded_at, details.
SELECT outcome, last_version, last_position, recorded_at, details
FROM indelible.append(
    %(stream)s::text, %(channel)s::text, %(expected)s::bigint, %(events)s::jsonb
)

-- name: append_batch
-- One row per entry: ordinal (from 1), outcome, last_version, last_position, recorded_at, details.
SELECT ordinal, outcome, last_version, last_position, recorded_at, details
FROM indelible.append_batch(%(appends)s::jsonb)

-- name: append_conditional
-- One row: outcome, last_version, last_position, recorded_at, details. If the condition fails, the
-- details are the positions of conflicting events.
SELECT outcome, last_version, last_position, recorded_at, details
FROM indelible.append_conditional(
    jsonb_build_array(
        jsonb_build_object(
            'stream', %(stream)s::text,
            'channel', %(channel)s::text,
            'expected', %(expected)s::bigint,
            'events', %(events)s::jsonb
        )
    ),
    %(conditions)s::jsonb
)

-- name: append_many
-- One row per entry: ordinal (from 1), outcome, last_version, last_position, recorded_at, details.
SELECT ordinal, outcome, last_version, last_position, recorded_at, details
FROM indelible.append_many(%(appends)s::jsonb)
ORDER BY ordinal

-- name: append_many_conditional
-- One row per entry: ordinal (from 1), outcome, last_version, last_position, recorded_at, details;
-- or one row with ordinal 0 and the positions of conflicting events.
SELECT ordinal, outcome, last_version, last_position, recorded_at, details
FROM indelible.append_conditional(%(appends)s::jsonb, %(conditions)s::jsonb)
ORDER BY ordinal

-- name: appended_events
-- One row per event with one of these ids, in order of position.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.recorded_events
WHERE id = ANY(%(ids)s::uuid[])
ORDER BY position

-- name: archive
-- One row: the outcome: done, missing or open.
SELECT indelible.archive_stream(%(stream)s::text, %(reason)s::text)

-- name: changes
-- One row per life cycle change of a stream, in order.
SELECT
    changes.operation, changes.events, changes.changed_by, changes.changed_at, changes.reason
FROM indelible.stream_changes AS changes
JOIN indelible.recorded_streams AS streams USING (stream_id)
WHERE streams.stream = %(stream)s
ORDER BY changes.number

-- name: check_checkpoint
-- One row: whether a reader may continue from a checkpoint, the current epoch, up to where the log
-- is the same as the reader's (null if that is not known), and the last assigned position.
SELECT is_valid, epoch, safe_through, last_position
FROM indelible.check_checkpoint(
    %(epoch)s::uuid, %(position)s, %(anchor_position)s::bigint, %(anchor_id)s::uuid
)

-- name: close
-- One row: outcome, last_version, details.
SELECT outcome, last_version, details
FROM indelible.close_stream(%(stream)s::text, %(expected)s::bigint, %(reason)s::text)

-- name: epoch
-- One row: the store's epoch.
SELECT indelible.epoch()

-- name: erase
-- One row: the outcome: done or missing.
SELECT indelible.erase_stream(%(stream)s::text, %(reason)s::text)

-- name: head
-- One row: the settled position.
SELECT indelible.head()

-- name: head_holders
-- One row per transaction that holds the head back, the oldest first.
SELECT
    pid, application, state, seconds, query
FROM indelible.head_holders()

-- name: head_info
-- One row: the last assigned position, and how many committed events are beyond the head.
SELECT
    (SELECT last_position FROM indelible.size()),
    (SELECT count(*) FROM indelible.recorded_events WHERE position > %(head)s)

-- name: head_state
-- One row: the settled position, the epoch, and the id of the event at that position.
SELECT head, epoch, event_id
FROM indelible.head_state()

-- name: index_recorded_times
-- One row: whether more positions can be indexed.
SELECT indelible.index_recorded_times(%(max_rows)s)

-- name: info
-- One row: stream, channel, version, position of the last event, the times of the first and the
-- last, and when it was closed, archived and erased. No row for a stream that was never written.
SELECT
    streams.stream,
    streams.channel,
    streams.version,
    last.position,
    first.recorded_at AS created_at,
    last.recorded_at,
    streams.closed_at,
    streams.archived_at,
    streams.erased_at
FROM indelible.recorded_streams AS streams
CROSS JOIN LATERAL (
    SELECT recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = 0
    OFFSET 0
) AS first
CROSS JOIN LATERAL (
    SELECT position, recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = streams.version
    OFFSET 0
) AS last
WHERE streams.stream = %(stream)s

-- name: known_names
-- One row: the types and the channels of the windows of the log and of the newest events, in order,
-- a bounded number. Each next name is one look-up in an index.
SELECT
    ARRAY(
        WITH RECURSIVE names AS (
            (SELECT type AS name FROM indelible.log_window_contents ORDER BY type LIMIT 1)
            UNION ALL
            SELECT (
                SELECT contents.type
                FROM indelible.log_window_contents AS contents
                WHERE contents.type > names.name
                ORDER BY contents.type
                LIMIT 1
            )
            FROM names
            WHERE names.name IS NOT NULL
        )
        (SELECT name FROM names WHERE name IS NOT NULL LIMIT %(most)s)
        UNION
        SELECT DISTINCT type
        FROM indelible.recorded_events
        WHERE position > %(after)s
            AND position <= %(upto)s
        ORDER BY 1
        LIMIT %(most)s
    ),
    ARRAY(
        WITH RECURSIVE names AS (
            (SELECT channel AS name FROM indelible.log_window_contents ORDER BY channel LIMIT 1)
            UNION ALL
            SELECT (
                SELECT contents.channel
                FROM indelible.log_window_contents AS contents
                WHERE contents.channel > names.name
                ORDER BY contents.channel
                LIMIT 1
            )
            FROM names
            WHERE names.name IS NOT NULL
        )
        (SELECT name FROM names WHERE name <> '' LIMIT %(most)s)
        UNION
        SELECT streams.channel
        FROM (
            SELECT stream_id
            FROM indelible.recorded_events
            WHERE position > %(after)s
                AND position <= %(upto)s
        ) AS newest
        CROSS JOIN LATERAL (
            SELECT channel
            FROM indelible.recorded_streams
            WHERE recorded_streams.stream_id = newest.stream_id
            OFFSET 0
        ) AS streams
        ORDER BY 1
        LIMIT %(most)s
    )

-- name: life_cycles
-- One row per stream of these names that was closed, reopened, archived or erased: stream, version,
-- life cycle.
SELECT
    streams.stream,
    streams.version,
    jsonb_build_object(
        'closed_at', streams.closed_at,
        'archived_at', streams.archived_at,
        'erased_at', streams.erased_at,
        'changes', (
            SELECT
                jsonb_agg(
                    jsonb_build_object(
                        'operation', changes.operation,
                        'events', changes.events,
                        'changed_by', changes.changed_by,
                        'changed_at', changes.changed_at,
                        'reason', changes.reason
                    )
                    ORDER BY changes.number
                )
            FROM indelible.stream_changes AS changes
            WHERE changes.stream_id = streams.stream_id
        )
    ) AS life
FROM indelible.recorded_streams AS streams
WHERE streams.stream = ANY(%(streams)s::text[])
    AND (SELECT true FROM indelible.stream_changes LIMIT 1)
    AND EXISTS (
        SELECT FROM indelible.stream_changes AS changes
        WHERE changes.stream_id = streams.stream_id
    )

-- name: list
-- One row per stream, in order of name: stream, channel, version, position of the last event, the
-- times of the first and the last, and when it was closed, archived and erased.
-- OFFSET 0 makes the planner look up each event by index.
SELECT
    streams.stream,
    streams.channel,
    streams.version,
    last.position,
    first.recorded_at AS created_at,
    last.recorded_at,
    streams.closed_at,
    streams.archived_at,
    streams.erased_at
FROM (
    SELECT stream_id, stream, channel, version, closed_at, archived_at, erased_at
    FROM indelible.recorded_streams
    WHERE stream > %(after)s
        AND (%(channel)s::text IS NULL OR channel = %(channel)s::text)
        AND (%(prefix)s::text IS NULL OR starts_with(stream, %(prefix)s::text))
        -- Names are in byte order: those that start with the prefix follow it without a gap.
        AND (%(prefix)s::text IS NULL OR stream >= %(prefix)s::text)
    ORDER BY stream
    LIMIT %(limit)s
) AS streams
CROSS JOIN LATERAL (
    SELECT recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = 0
    OFFSET 0
) AS first
CROSS JOIN LATERAL (
    SELECT position, recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = streams.version
    OFFSET 0
) AS last
ORDER BY streams.stream

-- name: list_page
-- One row per stream in any part of the list, in order of name: the number of the part, then as in
-- list. A part is a range of names, of which a bounded number is looked at. As row comparisons, its
-- bounds do not make the planner expect few names, which it would sort.
-- OFFSET 0 makes the planner look up each event by index.
SELECT
    streams.part,
    streams.stream,
    streams.channel,
    streams.version,
    last.position,
    first.recorded_at AS created_at,
    last.recorded_at,
    streams.closed_at,
    streams.archived_at,
    streams.erased_at
FROM (
    SELECT
        parts.number AS part, found.stream_id, found.stream, found.channel, found.version,
        found.closed_at, found.archived_at, found.erased_at
    FROM jsonb_array_elements(%(parts)s::jsonb) WITH ORDINALITY AS parts (part, number)
    CROSS JOIN LATERAL (
        SELECT
            looked_at.stream_id, looked_at.stream, looked_at.channel, looked_at.version,
            looked_at.closed_at, looked_at.archived_at, looked_at.erased_at
        FROM (
            SELECT stream_id, stream, channel, version, closed_at, archived_at, erased_at
            FROM indelible.recorded_streams
            WHERE (stream, 0) > (parts.part ->> 'low', (parts.part ->> 'step')::integer)
                AND (stream, 0) < (parts.part ->> 'high', 0)
            ORDER BY stream ASC
            LIMIT %(most)s
        ) AS looked_at
        WHERE (parts.part ->> 'channel' IS NULL OR looked_at.channel = parts.part ->> 'channel')
            AND (
                %(state)s::text IS NULL
                OR %(state)s::text = CASE
                    WHEN looked_at.erased_at IS NOT NULL THEN 'erased'
                    WHEN looked_at.closed_at IS NULL THEN 'open'
                    WHEN looked_at.archived_at IS NULL THEN 'closed'
                    ELSE 'archived'
                END
            )
        ORDER BY looked_at.stream ASC
        LIMIT %(limit)s
    ) AS found
    OFFSET 0
) AS streams
CROSS JOIN LATERAL (
    SELECT recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = 0
    OFFSET 0
) AS first
CROSS JOIN LATERAL (
    SELECT position, recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = streams.version
    OFFSET 0
) AS last
ORDER BY streams.part, streams.stream ASC

-- name: list_reach
-- One row per part of the list that has more names than are looked at: its number, and the last of
-- these names.
SELECT parts.number, reached.stream
FROM jsonb_array_elements(%(parts)s::jsonb) WITH ORDINALITY AS parts (part, number)
CROSS JOIN LATERAL (
    SELECT stream
    FROM indelible.recorded_streams
    WHERE (stream, 0) > (parts.part ->> 'low', (parts.part ->> 'step')::integer)
        AND (stream, 0) < (parts.part ->> 'high', 0)
    ORDER BY stream ASC
    OFFSET %(most)s - 1
    LIMIT 1
) AS reached

-- name: matching_windows
-- One row: up to where windows are written, and those between two positions that may have events
-- that match any of the items: their last positions, in order.
SELECT written_up_to, positions
FROM indelible.matching_windows(%(items)s::jsonb, %(after)s, %(upto)s)
WHERE (SELECT indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))

-- name: note_settled
-- One row without content: the settled position is stored for servers that take over.
SELECT indelible.record_settled_position()

-- name: position_at
-- One row: the position of a moment, at or below a settled position, and whether it is final
-- because an event recorded later is settled.
SELECT position, is_final
FROM indelible.position_at(%(moment)s, %(head)s)

-- name: read_log
-- One row per event of the log, in order of position. Written so that the plan is the same without
-- statistics, for a young or a restored store. As a row comparison, the upper bound does not make
-- the planner expect few events, which it would sort. OFFSET 0 makes it look up each stream by
-- index: it would read all streams for a page.
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM (
        SELECT position, stream_id, version, id, type, data, metadata, tags, recorded_at, valid_at
        FROM indelible.recorded_unarchived
        WHERE position > %(after)s
            AND (position, 0) <= (%(upto)s, 0)
        ORDER BY position ASC
        LIMIT %(limit)s
    ) AS page
    LEFT JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams ON true
    ORDER BY page.position ASC
)
UNION ALL
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM (
        SELECT position, stream_id, version, id, type, data, metadata, tags, recorded_at, valid_at
        FROM indelible.recorded_archived
        WHERE position > %(after)s
            AND (position, 0) <= (%(upto)s, 0)
        ORDER BY position ASC
        LIMIT %(limit)s
    ) AS page
    LEFT JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams ON true
    ORDER BY page.position ASC
)
ORDER BY position ASC
LIMIT %(limit)s
-- Evaluated once, before the first row. As a condition of a branch it would keep the planner from
-- memoizing streams.
OFFSET (
    SELECT CASE
        WHEN indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)

-- name: read_log_any
-- One row per event of the log that matches any of the items, in order of position.
WITH items AS MATERIALIZED (
    SELECT types, tags, channel, stream, stream_prefix
    FROM jsonb_to_recordset(%(items)s::jsonb)
        AS items (types text[], tags text[], channel text, stream text, stream_prefix text)
)
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM indelible.recorded_unarchived AS page
    CROSS JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams
    WHERE page.position > %(after)s
        AND (page.position, 0) <= (%(upto)s, 0)
        AND EXISTS (
            SELECT
            FROM items
            WHERE (items.types IS NULL OR page.type = ANY(items.types))
                AND (items.tags IS NULL OR page.tags @> items.tags)
                AND (items.channel IS NULL OR streams.channel = items.channel)
                AND (items.stream IS NULL OR streams.stream = items.stream)
                AND (items.stream_prefix IS NULL OR starts_with(streams.stream, items.stream_prefix))
        )
    ORDER BY page.position ASC
    LIMIT %(limit)s
)
UNION ALL
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM indelible.recorded_archived AS page
    CROSS JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams
    WHERE page.position > %(after)s
        AND (page.position, 0) <= (%(upto)s, 0)
        AND EXISTS (
            SELECT
            FROM items
            WHERE (items.types IS NULL OR page.type = ANY(items.types))
                AND (items.tags IS NULL OR page.tags @> items.tags)
                AND (items.channel IS NULL OR streams.channel = items.channel)
                AND (items.stream IS NULL OR streams.stream = items.stream)
                AND (items.stream_prefix IS NULL OR starts_with(streams.stream, items.stream_prefix))
        )
    ORDER BY page.position ASC
    LIMIT %(limit)s
)
ORDER BY position ASC
LIMIT %(limit)s
-- Evaluated once, before the first row. As a condition of a branch it would keep the planner from
-- memoizing streams.
OFFSET (
    SELECT CASE
        WHEN indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)

-- name: read_log_by_valid_time
-- One row per event of the log between two keys of valid time and position, in order of valid time,
-- then of position. The first branch reads the events with their own valid time, by its index. The
-- second reads those valid from their recorded time, by the positions that may be of that time.
WITH parts AS MATERIALIZED (
    SELECT position - 1000 AS after, position AS upto
    FROM indelible.recorded_time_index
    WHERE position > %(after)s
        AND position - 1000 < %(upto)s
        AND latest >= coalesce(%(above_valid_at)s::timestamptz, '-infinity')
        AND earliest <= %(below_valid_at)s::timestamptz
    UNION ALL
    SELECT greatest(indelible.indexed_up_to(), %(after)s), %(upto)s
)
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM (
    (
        SELECT
            position, stream, version, id, type, data, metadata, tags, channel, recorded_at,
            given_valid_at AS valid_at
        FROM indelible.recorded_events AS recorded
        WHERE given_valid_at IS NOT NULL
            AND (given_valid_at, position)
                > (coalesce(%(above_valid_at)s::timestamptz, '-infinity'), %(above_position)s)
            AND (given_valid_at, position) < (%(below_valid_at)s::timestamptz, %(below_position)s)
            AND position > %(after)s
            AND position <= %(upto)s
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        items => %(items)s::jsonb, type => recorded.type, tags => recorded.tags,
                        channel => recorded.channel, stream => recorded.stream
                    )
                )
            )
        ORDER BY given_valid_at ASC, position ASC
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT
            recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
            recorded.data, recorded.metadata, recorded.tags, recorded.channel,
            recorded.recorded_at, recorded.recorded_at AS valid_at
        FROM parts
        CROSS JOIN LATERAL (
            SELECT
                position, stream, version, id, type, data, metadata, tags, channel, recorded_at,
                given_valid_at
            FROM indelible.recorded_events
            WHERE position > parts.after
                AND position <= parts.upto
                AND position > %(after)s
                AND position <= %(upto)s
            OFFSET 0
        ) AS recorded
        WHERE recorded.given_valid_at IS NULL
            AND (recorded.recorded_at, recorded.position)
                > (coalesce(%(above_valid_at)s::timestamptz, '-infinity'), %(above_position)s)
            AND (recorded.recorded_at, recorded.position)
                < (%(below_valid_at)s::timestamptz, %(below_position)s)
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        items => %(items)s::jsonb, type => recorded.type, tags => recorded.tags,
                        channel => recorded.channel, stream => recorded.stream
                    )
                )
            )
        ORDER BY recorded.recorded_at ASC, recorded.position ASC
        LIMIT %(limit)s
    )
) AS merged
WHERE (SELECT indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
ORDER BY valid_at ASC, position ASC
LIMIT %(limit)s

-- name: read_log_filtered
-- One row per event of the log that matches all given filters, in order of position. The plan is
-- that of read_log.
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM indelible.recorded_unarchived AS page
    CROSS JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams
    WHERE page.position > %(after)s
        AND (page.position, 0) <= (%(upto)s, 0)
        AND (%(types)s::text[] IS NULL OR page.type = ANY(%(types)s::text[]))
        AND (%(tags)s::text[] IS NULL OR page.tags @> %(tags)s::text[])
        AND (%(channel)s::text IS NULL OR streams.channel = %(channel)s::text)
        AND (
            %(stream)s::text IS NULL
            OR page.stream_id = (
                SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s::text
            )
        )
        AND (%(stream_prefix)s::text IS NULL OR starts_with(streams.stream, %(stream_prefix)s::text))
    ORDER BY page.position ASC
    LIMIT %(limit)s
)
UNION ALL
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM indelible.recorded_archived AS page
    CROSS JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams
    WHERE page.position > %(after)s
        AND (page.position, 0) <= (%(upto)s, 0)
        AND (%(types)s::text[] IS NULL OR page.type = ANY(%(types)s::text[]))
        AND (%(tags)s::text[] IS NULL OR page.tags @> %(tags)s::text[])
        AND (%(channel)s::text IS NULL OR streams.channel = %(channel)s::text)
        AND (
            %(stream)s::text IS NULL
            OR page.stream_id = (
                SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s::text
            )
        )
        AND (%(stream_prefix)s::text IS NULL OR starts_with(streams.stream, %(stream_prefix)s::text))
    ORDER BY page.position ASC
    LIMIT %(limit)s
)
ORDER BY position ASC
LIMIT %(limit)s
-- Evaluated once, before the first row. As a condition of a branch it would keep the planner from
-- memoizing streams.
OFFSET (
    SELECT CASE
        WHEN indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)

-- name: read_log_tagged
-- One row per event of the log that matches any of the items, in order of position. Each item names
-- tags. OFFSET 0 makes the planner look up each event by index.
SELECT
    recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type, recorded.data,
    recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at, recorded.valid_at
FROM (
    SELECT DISTINCT matching.position
    FROM jsonb_to_recordset(%(items)s::jsonb)
        AS items (types text[], tags text[], channel text, stream text, stream_prefix text)
    CROSS JOIN LATERAL (
        SELECT tagged.position
        FROM indelible.event_tags
        CROSS JOIN LATERAL (
            SELECT position, stream, type, tags, channel
            FROM indelible.recorded_events
            WHERE recorded_events.position = event_tags.position
            OFFSET 0
        ) AS tagged
        WHERE event_tags.tag = items.tags[1]
            AND event_tags.position > %(after)s
            AND event_tags.position <= %(upto)s
            AND tagged.tags @> items.tags
            AND (items.types IS NULL OR tagged.type = ANY(items.types))
            AND (items.channel IS NULL OR tagged.channel = items.channel)
            AND (items.stream IS NULL OR tagged.stream = items.stream)
            AND (items.stream_prefix IS NULL OR starts_with(tagged.stream, items.stream_prefix))
        ORDER BY event_tags.position ASC
        LIMIT %(limit)s
    ) AS matching
    ORDER BY matching.position ASC
    LIMIT %(limit)s
) AS found
CROSS JOIN LATERAL (
    SELECT position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE recorded_events.position = found.position
    OFFSET 0
) AS recorded
WHERE (SELECT indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
ORDER BY recorded.position ASC

-- name: read_positions
-- One row per event at one of the positions, in order of position.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.recorded_events
WHERE position = ANY(%(positions)s::bigint[])
ORDER BY position

-- name: read_stream
-- One row per event of one stream, in order of version. As a row comparison, the upper bound does
-- not make the planner expect few events, which it would sort.
WITH target AS MATERIALIZED (
    SELECT stream_id, channel, archived_at
    FROM indelible.recorded_streams
    WHERE stream = %(stream)s
)
SELECT
    position, NULL AS stream, version, id, type, data, metadata, tags,
    (SELECT channel FROM target) AS channel, recorded_at, valid_at
FROM indelible.recorded_events
WHERE stream_id = (SELECT stream_id FROM target)
    AND version >= %(from_version)s
    AND (version, 0) <= (%(to_version)s, 0)
    AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s::text[]))
    AND (NOT is_archived OR (SELECT archived_at IS NOT NULL FROM target))
ORDER BY version ASC
LIMIT %(limit)s

-- name: read_stream_by_valid_time
-- One row per event of one stream between two keys of valid time and position, in order of valid
-- time, then of position.
SELECT
    position, NULL AS stream, version, id, type, data, metadata, tags,
    (SELECT channel FROM indelible.recorded_streams WHERE stream = %(stream)s) AS channel,
    recorded_at, valid_at
FROM indelible.recorded_events
WHERE stream_id = (
        SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s
    )
    AND version BETWEEN %(from_version)s AND %(to_version)s
    AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s::text[]))
    AND (
        NOT is_archived
        OR (SELECT archived_at IS NOT NULL FROM indelible.recorded_streams WHERE stream = %(stream)s)
    )
    AND (valid_at, position)
        > (coalesce(%(above_valid_at)s::timestamptz, '-infinity'), %(above_position)s)
    AND (valid_at, position) < (%(below_valid_at)s::timestamptz, %(below_position)s)
ORDER BY valid_at ASC, position ASC
LIMIT %(limit)s

-- name: read_versions
-- One row per event of one stream, in the order of the given versions.
SELECT
    recorded.position, NULL AS stream, recorded.version, recorded.id, recorded.type, recorded.data,
    recorded.metadata, recorded.tags,
    (SELECT channel FROM indelible.recorded_streams WHERE stream = %(stream)s) AS channel,
    recorded.recorded_at, recorded.valid_at
FROM unnest(%(versions)s::bigint[]) WITH ORDINALITY AS requested (version, ordinal)
JOIN indelible.recorded_events AS recorded
    ON recorded.stream_id = (
        SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s
    )
    AND recorded.version = requested.version
    AND (
        NOT recorded.is_archived
        OR (SELECT archived_at IS NOT NULL FROM indelible.recorded_streams WHERE stream = %(stream)s)
    )
ORDER BY requested.ordinal

-- name: recently_changed
-- One row per stream of the newest events between two positions that match any of the items, the
-- last changed first: as in list.
SELECT
    streams.stream,
    streams.channel,
    streams.version,
    last.position,
    first.recorded_at AS created_at,
    last.recorded_at,
    streams.closed_at,
    streams.archived_at,
    streams.erased_at
FROM (
    SELECT stream_id, max(position) AS newest
    FROM (
        SELECT position, stream_id
        FROM (
            (
                SELECT page.position, page.stream_id
                FROM indelible.recorded_unarchived AS page
                CROSS JOIN LATERAL (
                    SELECT stream, channel
                    FROM indelible.recorded_streams
                    WHERE recorded_streams.stream_id = page.stream_id
                    OFFSET 0
                ) AS streams
                WHERE page.position > %(after)s
                    AND (page.position, 0) <= (%(upto)s, 0)
                    AND (
                        %(items)s::jsonb IS NULL
                        OR EXISTS (
                            SELECT
                            FROM indelible.matching_items(
                                items => %(items)s::jsonb, type => page.type, tags => page.tags,
                                channel => streams.channel, stream => streams.stream
                            )
                        )
                    )
                ORDER BY page.position DESC
                LIMIT %(events)s
            )
            UNION ALL
            (
                SELECT page.position, page.stream_id
                FROM indelible.recorded_archived AS page
                CROSS JOIN LATERAL (
                    SELECT stream, channel
                    FROM indelible.recorded_streams
                    WHERE recorded_streams.stream_id = page.stream_id
                    OFFSET 0
                ) AS streams
                WHERE page.position > %(after)s
                    AND (page.position, 0) <= (%(upto)s, 0)
                    AND (
                        %(items)s::jsonb IS NULL
                        OR EXISTS (
                            SELECT
                            FROM indelible.matching_items(
                                items => %(items)s::jsonb, type => page.type, tags => page.tags,
                                channel => streams.channel, stream => streams.stream
                            )
                        )
                    )
                ORDER BY page.position DESC
                LIMIT %(events)s
            )
        ) AS merged
        ORDER BY position DESC
        LIMIT %(events)s
    ) AS newest_events
    GROUP BY stream_id
    ORDER BY newest DESC
    LIMIT %(limit)s
) AS changed
CROSS JOIN LATERAL (
    SELECT stream_id, stream, channel, version, closed_at, archived_at, erased_at
    FROM indelible.recorded_streams
    WHERE recorded_streams.stream_id = changed.stream_id
    OFFSET 0
) AS streams
CROSS JOIN LATERAL (
    SELECT recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = 0
    OFFSET 0
) AS first
CROSS JOIN LATERAL (
    SELECT position, recorded_at
    FROM indelible.recorded_events
    WHERE recorded_events.stream_id = streams.stream_id AND recorded_events.version = streams.version
    OFFSET 0
) AS last
ORDER BY changed.newest DESC

-- name: reopen
-- One row: the outcome: done or missing.
SELECT indelible.reopen_stream(%(stream)s::text, %(reason)s::text)

-- name: search_log
-- One row per event of the log that has one of some values in a field of its data or metadata, and
-- that matches any of the items, in order of position. A value in a list is found, too. The plan is
-- that of read_log.
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM indelible.recorded_unarchived AS page
    CROSS JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams
    WHERE page.position > %(after)s
        AND (page.position, 0) <= (%(upto)s, 0)
        AND (
            (
                %(in_data)s::boolean
                AND page.data #> %(path)s::text[] @> ANY(%(values)s::text[]::jsonb[])
            )
            OR (
                %(in_metadata)s::boolean
                AND page.metadata #> %(path)s::text[] @> ANY(%(values)s::text[]::jsonb[])
            )
        )
        AND (
            %(items)s::jsonb IS NULL
            OR EXISTS (
                SELECT
                FROM indelible.matching_items(
                    items => %(items)s::jsonb, type => page.type, tags => page.tags,
                    channel => streams.channel, stream => streams.stream
                )
            )
        )
    ORDER BY page.position ASC
    LIMIT %(limit)s
)
UNION ALL
(
    SELECT
        page.position, streams.stream, page.version, page.id, page.type, page.data, page.metadata,
        page.tags, streams.channel, page.recorded_at, page.valid_at
    FROM indelible.recorded_archived AS page
    CROSS JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = page.stream_id
        OFFSET 0
    ) AS streams
    WHERE page.position > %(after)s
        AND (page.position, 0) <= (%(upto)s, 0)
        AND (
            (
                %(in_data)s::boolean
                AND page.data #> %(path)s::text[] @> ANY(%(values)s::text[]::jsonb[])
            )
            OR (
                %(in_metadata)s::boolean
                AND page.metadata #> %(path)s::text[] @> ANY(%(values)s::text[]::jsonb[])
            )
        )
        AND (
            %(items)s::jsonb IS NULL
            OR EXISTS (
                SELECT
                FROM indelible.matching_items(
                    items => %(items)s::jsonb, type => page.type, tags => page.tags,
                    channel => streams.channel, stream => streams.stream
                )
            )
        )
    ORDER BY page.position ASC
    LIMIT %(limit)s
)
ORDER BY position ASC
LIMIT %(limit)s
-- Evaluated once, before the first row. As a condition of a branch it would keep the planner from
-- memoizing streams.
OFFSET (
    SELECT CASE
        WHEN indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)

-- name: times
-- One row per event of one stream between two versions, one of so many, in order of version.
SELECT times.version, times.position, times.recorded_at, times.valid_at, times.type
FROM generate_series(
    %(from_version)s::bigint, %(to_version)s::bigint, %(step)s::bigint
) AS wanted (version)
CROSS JOIN LATERAL (
    SELECT version, position, type, recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE stream_id = (
            SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s
        )
        AND recorded_events.version = wanted.version
    OFFSET 0
) AS times
ORDER BY wanted.version ASC

-- name: valid_time_order
-- One row: the versions of the events of one stream between two keys of valid time and position, in
-- order of valid time, then of position; null without such events.
SELECT array_agg(version ORDER BY valid_at, position)
FROM indelible.recorded_events
WHERE stream_id = (
        SELECT stream_id FROM indelible.recorded_streams WHERE stream = %(stream)s
    )
    AND version BETWEEN %(from_version)s AND %(to_version)s
    AND (%(types)s::text[] IS NULL OR type = ANY(%(types)s::text[]))
    AND (
        NOT is_archived
        OR (SELECT archived_at IS NOT NULL FROM indelible.recorded_streams WHERE stream = %(stream)s)
    )
    AND (valid_at, position)
        > (coalesce(%(above_valid_at)s::timestamptz, '-infinity'), %(above_position)s)
    AND (valid_at, position) < (%(below_valid_at)s::timestamptz, %(below_position)s)

-- name: valid_time_window
-- One row: the moment up to which the given number of further periods is recorded; null if fewer
-- are.
SELECT (
    SELECT latest_so_far
    FROM indelible.recorded_time_index
    WHERE latest_so_far > coalesce(%(above)s::timestamptz, '-infinity')
        AND latest_so_far < %(below)s::timestamptz
        AND position <= %(upto)s
    ORDER BY latest_so_far ASC, position ASC
    OFFSET %(periods)s
    LIMIT 1
)

-- name: version_at
-- One row: the version that a stream had at a position; -1 if it had no events.
SELECT indelible.version_at(%(stream)s, %(position)s)

-- name: wait_at_commit
-- One row without content: the commit waits for the disk and for synchronous standbys.
SELECT indelible.wait_at_commit()

-- name: write_log_windows
-- One row: up to where windows are written.
SELECT indelible.write_log_windows(%(max_positions)s)
