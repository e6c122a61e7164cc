-- name: due
-- A row an event whose valid time has come, in order of valid time, then of position. Those whose
-- valid time is their recorded time are left out: they were due when they came.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at,
    given_valid_at AS valid_at
FROM indelible.recorded_events AS recorded
WHERE (SELECT indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
    AND given_valid_at IS NOT NULL
    AND given_valid_at <> recorded_at
    AND (given_valid_at, position) > (%(above_valid_at)s::timestamptz, %(above_position)s)
    AND given_valid_at <= %(until)s::timestamptz
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
ORDER BY given_valid_at, position
LIMIT %(limit)s

-- name: next_due
-- One row: the time of the database, and the next valid time that an event up to a position has;
-- null where there is none.
SELECT
    clock_timestamp(),
    (
        SELECT given_valid_at
        FROM indelible.recorded_events
        WHERE (SELECT indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
            AND given_valid_at IS NOT NULL
            AND given_valid_at <> recorded_at
            AND (given_valid_at, position) > (%(above_valid_at)s::timestamptz, %(above_position)s)
            AND position <= %(upto)s
        ORDER BY given_valid_at, position
        LIMIT 1
    )

-- name: notify
-- One row where somebody hears it: this session or another (see `Watch`), and none otherwise: a
-- NOTIFY that nobody hears would cost all processes that write. Its commit waits neither for the
-- disk nor for long for the lock of the whole cluster that it takes.
SELECT
    set_config('synchronous_commit', 'off', true),
    set_config('lock_timeout', '100ms', true),
    pg_notify(%(bell)s, '')
WHERE %(listens)s OR NOT pg_try_advisory_xact_lock(-1, hashtext(%(bell)s))
