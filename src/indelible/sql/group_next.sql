-- A row an event that falls to a worker, in order of position: the event, its key, its slice, and its
-- valid time where that is not its recorded time.
-- The token is in the condition: who has lost its lease reads nothing. OFFSET 0 holds the planner
-- to one look-up an event, by index, whatever it believes of tables that are new to it.
(
    SELECT
        recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
        recorded.data, recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at,
        recorded.valid_at, keys.key, owned.slice,
        CASE
            WHEN recorded.given_valid_at <> recorded.recorded_at THEN recorded.given_valid_at
        END
    FROM indelible.recorded_unarchived AS recorded
    CROSS JOIN LATERAL (
        SELECT indelible.partition_key(
            %(partition_by)s, recorded.stream, recorded.tags, recorded.metadata
        ) AS key
        OFFSET 0
    ) AS keys
    CROSS JOIN LATERAL (
        SELECT slices.slice, slices.position
        FROM indelible.group_slices AS slices
        WHERE slices.group_id = %(group_id)s
            AND slices.slice = indelible.slice_of(keys.key)
            AND slices.token = %(token)s
        OFFSET 0
    ) AS owned
    WHERE recorded.position > %(after)s
        AND recorded.position <= %(upto)s
        AND recorded.position > owned.position
        AND recorded.data IS NOT NULL -- what was erased is nobody's any more
        AND (
            %(items)s::jsonb IS NULL
            OR EXISTS (
                SELECT
                FROM jsonb_to_recordset(%(items)s::jsonb)
                    AS items (types text[], tags text[], channel text, stream_prefix text)
                WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                    AND (items.tags IS NULL OR recorded.tags @> items.tags)
                    AND (items.channel IS NULL OR recorded.channel = items.channel)
                    AND (
                        items.stream_prefix IS NULL
                        OR starts_with(recorded.stream, items.stream_prefix)
                    )
            )
        )
    ORDER BY recorded.position
    LIMIT %(limit)s
)
UNION ALL
(
    SELECT
        recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
        recorded.data, recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at,
        recorded.valid_at, keys.key, owned.slice,
        CASE
            WHEN recorded.given_valid_at <> recorded.recorded_at THEN recorded.given_valid_at
        END
    FROM indelible.recorded_archived AS recorded
    CROSS JOIN LATERAL (
        SELECT indelible.partition_key(
            %(partition_by)s, recorded.stream, recorded.tags, recorded.metadata
        ) AS key
        OFFSET 0
    ) AS keys
    CROSS JOIN LATERAL (
        SELECT slices.slice, slices.position
        FROM indelible.group_slices AS slices
        WHERE slices.group_id = %(group_id)s
            AND slices.slice = indelible.slice_of(keys.key)
            AND slices.token = %(token)s
        OFFSET 0
    ) AS owned
    WHERE recorded.position > %(after)s
        AND recorded.position <= %(upto)s
        AND recorded.position > owned.position
        AND recorded.data IS NOT NULL -- what was erased is nobody's any more
        AND (
            %(items)s::jsonb IS NULL
            OR EXISTS (
                SELECT
                FROM jsonb_to_recordset(%(items)s::jsonb)
                    AS items (types text[], tags text[], channel text, stream_prefix text)
                WHERE (items.types IS NULL OR recorded.type = ANY(items.types))
                    AND (items.tags IS NULL OR recorded.tags @> items.tags)
                    AND (items.channel IS NULL OR recorded.channel = items.channel)
                    AND (
                        items.stream_prefix IS NULL
                        OR starts_with(recorded.stream, items.stream_prefix)
                    )
            )
        )
    ORDER BY recorded.position
    LIMIT %(limit)s
)
ORDER BY position
LIMIT %(limit)s
-- Asked once, before the first row. As a condition of a part it would keep the planner from remembering
-- streams that it has looked up.
OFFSET (
    SELECT CASE
        WHEN indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)
