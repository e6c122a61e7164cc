-- One row: how often the next batch of a partition has failed, the seconds until it may be tried again, whether it is stopped, and the events that it leaves out.
SELECT
    parts.attempts,
    CASE
        WHEN parts.not_before > clock_timestamp()
        THEN extract(epoch FROM parts.not_before - clock_timestamp())
        ELSE 0
    END::double precision,
    parts.is_stopped,
    ARRAY(
        SELECT parked.position
        FROM indelible.projection_parked AS parked
        WHERE parked.projection_id = parts.projection_id AND parked.partition = parts.partition
            AND parked.position > parts.position
    )
FROM indelible.projection_partitions AS parts
WHERE parts.projection_id = %(projection_id)s
    AND parts.partition = %(partition)s
