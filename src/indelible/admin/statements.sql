-- name: busiest
-- One row per kind (stream, type, channel) and name, the busiest first: kind, name, number of events
-- in a range of positions. OFFSET 0 makes the planner look up each stream by index: it would read
-- all streams.
WITH newest AS MATERIALIZED (
    SELECT stream_id, type
    FROM indelible.recorded_events
    WHERE position > %(after)s AND position <= %(upto)s
),
of_streams AS MATERIALIZED (
    SELECT streams.stream, streams.channel, counted.events
    FROM (
        SELECT stream_id, count(*) AS events
        FROM newest
        GROUP BY stream_id
    ) AS counted
    CROSS JOIN LATERAL (
        SELECT stream, channel
        FROM indelible.recorded_streams
        WHERE recorded_streams.stream_id = counted.stream_id
        OFFSET 0
    ) AS streams
),
counted AS (
    SELECT 'stream' AS kind, stream AS name, events FROM of_streams
    UNION ALL
    SELECT 'type', type, count(*) FROM newest GROUP BY type
    UNION ALL
    SELECT 'channel', channel, sum(events)::bigint FROM of_streams GROUP BY channel
),
ranked AS (
    SELECT
        kind, name, events,
        row_number() OVER (PARTITION BY kind ORDER BY events DESC, name) AS place
    FROM counted
)
SELECT kind, name, events
FROM ranked
WHERE place <= %(most)s
ORDER BY kind, place

-- name: channels
-- One row per channel, in order of name: channel, number of streams, number of events.
SELECT channel, count(*), sum(version + 1)::bigint
FROM indelible.recorded_streams
GROUP BY channel
ORDER BY channel

-- name: correlated
-- One row per event of a correlation up to a position, in order of position, that matches any of the
-- items: position, stream, version, id, type, recorded time, correlation, causation. The first
-- condition is the expression of the index that `index_correlation` makes; it is cut, since an index
-- takes no long text.
SELECT
    position, stream, version, id, type, recorded_at,
    coalesce(metadata ->> 'correlation_id', metadata ->> '$correlationId') AS correlation,
    coalesce(metadata ->> 'causation_id', metadata ->> '$causationId') AS causation
FROM (
    (
        SELECT
            events.position, streams.stream, streams.channel, events.version, events.id, events.type,
            events.recorded_at, events.metadata
        FROM indelible.recorded_unarchived AS events
        CROSS JOIN LATERAL (
            SELECT stream, channel
            FROM indelible.recorded_streams
            WHERE recorded_streams.stream_id = events.stream_id
            OFFSET 0
        ) AS streams
        WHERE left(coalesce(events.metadata ->> 'correlation_id', events.metadata ->> '$correlationId'), 255) = left(%(value)s::text, 255)
            AND coalesce(events.metadata ->> 'correlation_id', events.metadata ->> '$correlationId') = %(value)s::text
            AND events.position <= %(upto)s
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        items => %(items)s::jsonb, type => events.type, tags => events.tags,
                        channel => streams.channel, stream => streams.stream
                    )
                )
            )
        ORDER BY events.position ASC
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT
            events.position, streams.stream, streams.channel, events.version, events.id, events.type,
            events.recorded_at, events.metadata
        FROM indelible.recorded_archived AS events
        CROSS JOIN LATERAL (
            SELECT stream, channel
            FROM indelible.recorded_streams
            WHERE recorded_streams.stream_id = events.stream_id
            OFFSET 0
        ) AS streams
        WHERE left(coalesce(events.metadata ->> 'correlation_id', events.metadata ->> '$correlationId'), 255) = left(%(value)s::text, 255)
            AND coalesce(events.metadata ->> 'correlation_id', events.metadata ->> '$correlationId') = %(value)s::text
            AND events.position <= %(upto)s
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        items => %(items)s::jsonb, type => events.type, tags => events.tags,
                        channel => streams.channel, stream => streams.stream
                    )
                )
            )
        ORDER BY events.position ASC
        LIMIT %(limit)s
    )
) AS events
ORDER BY position ASC
LIMIT %(limit)s

-- name: correlated_events
-- The same for events by their ids.
SELECT
    position, stream, version, id, type, recorded_at,
    coalesce(metadata ->> 'correlation_id', metadata ->> '$correlationId') AS correlation,
    coalesce(metadata ->> 'causation_id', metadata ->> '$causationId') AS causation
FROM indelible.recorded_events AS events
WHERE id = ANY(%(ids)s::uuid[])
    AND position <= %(upto)s
    AND (
        %(items)s::jsonb IS NULL
        OR EXISTS (
            SELECT
            FROM indelible.matching_items(
                items => %(items)s::jsonb, type => events.type, tags => events.tags,
                channel => events.channel, stream => events.stream
            )
        )
    )
ORDER BY position

-- name: correlated_near
-- The same, without an index: among the positions after one and up to another. Also those that an
-- event has caused.
SELECT
    position, stream, version, id, type, recorded_at,
    coalesce(metadata ->> 'correlation_id', metadata ->> '$correlationId') AS correlation,
    coalesce(metadata ->> 'causation_id', metadata ->> '$causationId') AS causation
FROM (
    (
        SELECT
            events.position, streams.stream, streams.channel, events.version, events.id, events.type,
            events.recorded_at, events.metadata
        FROM indelible.recorded_unarchived AS events
        CROSS JOIN LATERAL (
            SELECT stream, channel
            FROM indelible.recorded_streams
            WHERE recorded_streams.stream_id = events.stream_id
            OFFSET 0
        ) AS streams
        WHERE events.position > %(after)s
            AND (events.position, 0) <= (%(upto)s, 0)
            AND events.metadata IS NOT NULL
            AND (
                coalesce(events.metadata ->> 'correlation_id', events.metadata ->> '$correlationId') = %(value)s::text
                OR coalesce(events.metadata ->> 'causation_id', events.metadata ->> '$causationId') = %(cause)s::text
            )
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        items => %(items)s::jsonb, type => events.type, tags => events.tags,
                        channel => streams.channel, stream => streams.stream
                    )
                )
            )
        ORDER BY events.position ASC
        LIMIT %(limit)s
    )
    UNION ALL
    (
        SELECT
            events.position, streams.stream, streams.channel, events.version, events.id, events.type,
            events.recorded_at, events.metadata
        FROM indelible.recorded_archived AS events
        CROSS JOIN LATERAL (
            SELECT stream, channel
            FROM indelible.recorded_streams
            WHERE recorded_streams.stream_id = events.stream_id
            OFFSET 0
        ) AS streams
        WHERE events.position > %(after)s
            AND (events.position, 0) <= (%(upto)s, 0)
            AND events.metadata IS NOT NULL
            AND (
                coalesce(events.metadata ->> 'correlation_id', events.metadata ->> '$correlationId') = %(value)s::text
                OR coalesce(events.metadata ->> 'causation_id', events.metadata ->> '$causationId') = %(cause)s::text
            )
            AND (
                %(items)s::jsonb IS NULL
                OR EXISTS (
                    SELECT
                    FROM indelible.matching_items(
                        items => %(items)s::jsonb, type => events.type, tags => events.tags,
                        channel => streams.channel, stream => streams.stream
                    )
                )
            )
        ORDER BY events.position ASC
        LIMIT %(limit)s
    )
) AS events
ORDER BY position ASC
LIMIT %(limit)s

-- name: correlated_tagged
-- The same for events with a tag that have this correlation, or none.
SELECT
    found.position, found.stream, found.version, found.id, found.type, found.recorded_at,
    coalesce(found.metadata ->> 'correlation_id', found.metadata ->> '$correlationId') AS correlation,
    coalesce(found.metadata ->> 'causation_id', found.metadata ->> '$causationId') AS causation
FROM indelible.event_tags
CROSS JOIN LATERAL (
    SELECT position, stream, version, id, type, recorded_at, metadata, tags, channel
    FROM indelible.recorded_events
    WHERE recorded_events.position = event_tags.position
    OFFSET 0
) AS found
WHERE event_tags.tag = %(tag)s
    AND event_tags.position <= %(upto)s
    AND coalesce(coalesce(found.metadata ->> 'correlation_id', found.metadata ->> '$correlationId'), %(value)s::text) = %(value)s::text
    AND (
        %(items)s::jsonb IS NULL
        OR EXISTS (
            SELECT
            FROM indelible.matching_items(
                items => %(items)s::jsonb, type => found.type, tags => found.tags,
                channel => found.channel, stream => found.stream
            )
        )
    )
ORDER BY event_tags.position ASC
LIMIT %(limit)s

-- name: correlation_index
-- One row: whether both tables of events have the index that `index_correlation` makes.
SELECT count(*) = 2
FROM pg_index
WHERE indexrelid IN (
        to_regclass('indelible.events_correlation_index'),
        to_regclass('indelible.archived_events_correlation_index')
    )
    AND indisvalid

-- name: event_types
-- One row per event type in a range of positions: how many events it has, the first and the last
-- position, and random positions (null if none are requested).
SELECT
    type,
    count(*),
    min(position),
    max(position),
    (array_agg(position ORDER BY random()) FILTER (WHERE %(samples)s > 0))[1:%(samples)s]
FROM indelible.recorded_events
WHERE position > %(after)s
    AND position <= %(upto)s
GROUP BY type

-- name: event_types_matching
-- One row per event type of the events in a range of positions that match any of the items: how
-- many there are, the first and the last position.
SELECT found.type, count(*), min(found.position), max(found.position)
FROM (
    SELECT position, stream_id, type, tags
    FROM indelible.recorded_events
    WHERE position > %(after)s
        AND position <= %(upto)s
) AS found
CROSS JOIN LATERAL (
    SELECT stream, channel
    FROM indelible.recorded_streams
    WHERE recorded_streams.stream_id = found.stream_id
    OFFSET 0
) AS streams
WHERE EXISTS (
    SELECT
    FROM indelible.matching_items(
        items => %(items)s::jsonb, type => found.type, tags => found.tags,
        channel => streams.channel, stream => streams.stream
    )
)
GROUP BY found.type
ORDER BY found.type

-- name: event_type_of_windows
-- One row: how many events of a type the windows of the log have, and up to where they are written.
SELECT
    (
        SELECT coalesce(sum(events), 0)::bigint
        FROM indelible.log_window_contents
        WHERE type = %(type)s
    ),
    (SELECT coalesce(max(position), 0) FROM indelible.log_windows)

-- name: event_types_of_windows
-- One row per event type in the windows of the log: how many events it has, the first and the last
-- position, and up to where windows are written.
SELECT
    type,
    sum(events)::bigint,
    min(first_position),
    max(last_position),
    (SELECT max(position) FROM indelible.log_windows)
FROM indelible.log_window_contents
GROUP BY type

-- name: indexed_up_to
-- One row: the position up to which the recorded times are indexed.
SELECT indelible.indexed_up_to()

-- name: positions_over
-- One row per moment, in the order given: its position, at or below a settled position.
SELECT (indelible.position_at(given.moment, %(head)s)).position
FROM unnest(%(moments)s::timestamptz[]) WITH ORDINALITY AS given (moment, ordinal)
ORDER BY given.ordinal

-- name: renew_epoch
-- One row: the epoch that begins now.
SELECT indelible.renew_epoch()

-- name: server
-- One row: the version of the database server, its clock, the schema version and the function set of
-- the store, the last assigned position, and the bytes on disk of tables and indexes.
SELECT
    current_setting('server_version'),
    clock_timestamp(),
    indelible.last_migration(),
    indelible.last_function_set(),
    last_position,
    bytes
FROM indelible.size()

-- name: statistics
-- One row: the last assigned position, and the bytes on disk of tables and indexes.
SELECT last_position, bytes
FROM indelible.size()
