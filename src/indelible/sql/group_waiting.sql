-- One row: how many events that match are not due yet, so many at most.
SELECT count(*)
FROM (
    SELECT
    FROM indelible.recorded_events AS recorded
    WHERE recorded.given_valid_at > statement_timestamp()
        AND recorded.given_valid_at <> recorded.recorded_at
        AND recorded.position <= %(head)s
        AND recorded.data IS NOT NULL
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
    LIMIT %(counted)s
) AS waiting
