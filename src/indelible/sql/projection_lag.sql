-- One row: how many events that match stand after a position, and the age of the first of them.
-- Where too many positions lie between to be looked through, they are counted instead.
WITH behind AS MATERIALIZED (
    SELECT recorded.recorded_at
    FROM indelible.recorded_events AS recorded
    WHERE recorded.position > %(after)s
        AND recorded.position <= least(%(head)s, %(after)s + %(counted)s)
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
)
SELECT
    CASE WHEN %(head)s - %(after)s > %(counted)s THEN %(head)s - %(after)s ELSE count(*) END,
    coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::double precision
FROM behind
