-- One row: the time of the database, and the next valid time that an event up to a position has;
-- null where there is none.
SELECT
    clock_timestamp(),
    (
        SELECT given_valid_at
        FROM indelible.recorded_events
        WHERE (SELECT indelible.may_read(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
            AND given_valid_at IS NOT NULL
            AND given_valid_at <> recorded_at
            AND (given_valid_at, position) > (%(above_moment)s::timestamptz, %(above_position)s)
            AND position <= %(upto)s
        ORDER BY given_valid_at, position
        LIMIT 1
    )
