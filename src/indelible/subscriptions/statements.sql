-- name: due
-- One row per event that is due, in order of valid time, then of position. Events whose valid time
-- is their recorded time are excluded: they were due when they were recorded.
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
-- One row: the time of the database, and the next valid time of an event up to a position; null
-- without such an event.
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

-- name: look
-- The state of the head, and the events after a known one up to it: one row per event, or one with
-- nulls if there are none, or too many.
SELECT
    state.head, state.epoch, state.event_id,
    news.position, news.stream, news.version, news.id, news.type, news.data, news.metadata,
    news.tags, news.channel, news.recorded_at, news.valid_at
FROM indelible.head_state() AS state
LEFT JOIN LATERAL indelible.events_since(%(after)s, %(after_id)s::uuid, state.head) AS news ON true

-- name: notify
-- One row if a session listens, this one or another (see `HeadWatcher`). Otherwise no row: a NOTIFY
-- without a listener would slow down all writers. Its commit does not wait for the disk. It waits
-- 100 ms at most for the cluster-wide lock of NOTIFY.
SELECT
    set_config('synchronous_commit', 'off', true),
    set_config('lock_timeout', '100ms', true),
    pg_notify(%(channel)s, '')
WHERE %(listens)s OR NOT pg_try_advisory_xact_lock(-1, hashtext(%(channel)s))
