-- name: ack
-- One row: true where the event is finished when the transaction commits, false where it was before.
SELECT indelible.group_ack(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(is_noted)s, %(due_moment)s,
    %(upto)s, %(upto_moment)s, %(upto_place)s
)

-- name: blocked_keys
-- A row a key of a worker's that has an event before which later ones must wait.
SELECT first.key
FROM indelible.group_first_pending(%(group_id)s, %(park_blocks_stream)s) AS first
WHERE %(token)s = (
    SELECT slices.token
    FROM indelible.group_slices AS slices
    WHERE slices.group_id = %(group_id)s AND slices.slice = first.slice
)

-- name: checkpoint
-- A row for the group, if there is one: up to where it is done.
SELECT indelible.group_checkpoint(id)
FROM indelible.groups
WHERE name = %(group)s

-- name: create
-- One row: whether the group was created.
SELECT indelible.group_create(
    %(group)s, %(items)s::jsonb, %(partition_by)s, %(after)s, %(since)s, %(max_attempts)s::int,
    %(retry_after)s, %(lease)s, %(park_blocks_stream)s, %(deliver_when_valid)s
)

-- name: delete
-- One row: whether there was such a group.
SELECT indelible.group_delete(%(group)s)

-- name: discard
-- One row: how many parked events were given up.
SELECT indelible.group_discard(%(group)s, %(position)s, %(key)s)

-- name: due_window
-- A row for the event that is so many places further in order of valid time, then of position: its
-- valid time and its position. None where there are fewer. Without filters, which would have the
-- planner believe that there are few, and sort them all.
SELECT given_valid_at, position
FROM indelible.recorded_events
WHERE given_valid_at IS NOT NULL
    AND (given_valid_at, position) > (%(above_moment)s::timestamptz, %(above_position)s)
ORDER BY given_valid_at, position
OFFSET %(count)s - 1
LIMIT 1

-- name: enqueue
-- One row: whether the event is queued, or finished; false where none is left to wait for.
SELECT indelible.group_enqueue(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(due_moment)s,
    %(upto)s, %(upto_moment)s, %(upto_place)s
)

-- name: fetch
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
                FROM indelible.matching_items(
                    %(items)s::jsonb, recorded.type, recorded.tags, recorded.channel, recorded.stream
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
                FROM indelible.matching_items(
                    %(items)s::jsonb, recorded.type, recorded.tags, recorded.channel, recorded.stream
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
        WHEN indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid) THEN 0
    END
)

-- name: fetch_due
-- A row an event that falls to a worker and has become due, in order of valid time, then of
-- position: the event, its key, its slice, and its valid time.
-- The token is in the condition: who has lost its lease reads nothing. OFFSET 0 holds the planner
-- to one look-up an event, by index, whatever it believes of tables that are new to it.
SELECT
    recorded.position, recorded.stream, recorded.version, recorded.id, recorded.type,
    recorded.data, recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at,
    recorded.valid_at, keys.key, owned.slice, recorded.given_valid_at
FROM indelible.recorded_events AS recorded
CROSS JOIN LATERAL (
    SELECT indelible.partition_key(
        %(partition_by)s, recorded.stream, recorded.tags, recorded.metadata
    ) AS key
    OFFSET 0
) AS keys
CROSS JOIN LATERAL (
    SELECT slices.slice
    FROM indelible.group_slices AS slices
    WHERE slices.group_id = %(group_id)s
        AND slices.slice = indelible.slice_of(keys.key)
        AND slices.token = %(token)s
    OFFSET 0
) AS owned
WHERE (SELECT indelible.check_reader_epoch(%(epoch)s::uuid, %(anchor)s::bigint, %(anchor_id)s::uuid))
    AND recorded.given_valid_at IS NOT NULL
    AND recorded.given_valid_at <> recorded.recorded_at
    AND (recorded.given_valid_at, recorded.position)
        > (%(above_moment)s::timestamptz, %(above_position)s)
    AND (recorded.given_valid_at, recorded.position)
        <= (%(until_moment)s::timestamptz, %(until_position)s)
    AND recorded.position <= %(upto)s
    AND recorded.data IS NOT NULL -- what was erased is nobody's any more
    AND (
        %(items)s::jsonb IS NULL
        OR EXISTS (
            SELECT
            FROM indelible.matching_items(
                %(items)s::jsonb, recorded.type, recorded.tags, recorded.channel, recorded.stream
            )
        )
    )
ORDER BY recorded.given_valid_at, recorded.position

-- name: fetch_retries
-- A row for the first noted event of each key of a worker's that does not wait for an operator:
-- the event, its key and slice, its state and attempts, and in how many seconds it may be tried. Nulls
-- for an event that is no longer in the log. OFFSET 0 holds the planner to one look-up an event, by index.
SELECT
    first.position, recorded.stream, recorded.version, recorded.id, recorded.type,
    recorded.data, recorded.metadata, recorded.tags, recorded.channel, recorded.recorded_at,
    recorded.valid_at, first.key, first.slice, first.state, first.attempts,
    extract(epoch FROM first.not_before - clock_timestamp())::double precision
FROM indelible.group_first_pending(%(group_id)s, %(park_blocks_stream)s) AS first
LEFT JOIN LATERAL (
    SELECT stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
    FROM indelible.recorded_events
    WHERE recorded_events.position = first.position
    OFFSET 0
) AS recorded ON true
WHERE first.state <> 'parked'
    AND %(token)s = (
        SELECT slices.token
        FROM indelible.group_slices AS slices
        WHERE slices.group_id = %(group_id)s AND slices.slice = first.slice
    )
ORDER BY first.not_before
LIMIT 500

-- name: get
-- A row for the group, if there is one: its settings, and how it stands.
SELECT
    groups.name,
    groups.query,
    groups.partition_by,
    groups.max_attempts,
    groups.retry_seconds,
    groups.lease_seconds,
    groups.park_blocks_stream,
    groups.deliver_when_valid,
    groups.id,
    groups.start_position,
    groups.created_at,
    indelible.group_checkpoint(groups.id),
    (SELECT min(places.position) FROM indelible.group_slice_progress(groups.id) AS places),
    count(noted.state) FILTER (WHERE noted.state IN ('retry', 'running')),
    count(noted.state) FILTER (WHERE noted.state = 'queued'),
    count(noted.state) FILTER (WHERE noted.state = 'parked')
FROM indelible.groups
LEFT JOIN indelible.group_events AS noted ON noted.group_id = groups.id
WHERE groups.name = %(group)s
GROUP BY groups.id

-- name: heartbeat
-- One row: how many slices are the worker's share, and how many belong to nobody.
SELECT share, unowned
FROM indelible.group_heartbeat(
    %(group_id)s, %(token)s, %(round)s::int, %(checkpoint)s, %(checkpoint_moment)s,
    %(checkpoint_place)s, %(delivered)s, %(delivered_moment)s, %(delivered_place)s,
    %(slices)s::smallint[], %(positions)s::bigint[], %(moments)s::timestamptz[],
    %(places)s::bigint[]
)

-- name: join
-- One row: the group's number, the worker's token and the epoch of the log; nulls where there is no
-- such group.
SELECT group_id, token, epoch
FROM indelible.group_join(%(group)s, %(worker)s, %(instance)s)

-- name: lag
-- One row: how many events that match, and are due, are not finished, and for how long the first of
-- them could have been. Where too many positions lie between to be looked through, they are counted
-- instead.
WITH behind AS MATERIALIZED (
    SELECT
        CASE
            WHEN %(deliver_when_valid)s THEN greatest(recorded.recorded_at, recorded.valid_at)
            ELSE recorded.recorded_at
        END AS since
    FROM indelible.recorded_events AS recorded
    WHERE recorded.position > %(after)s
        AND recorded.position <= least(%(head)s, %(after)s + %(counted)s)
        AND (
            NOT %(deliver_when_valid)s
            OR recorded.valid_at <= statement_timestamp()
            OR recorded.valid_at = recorded.recorded_at
        )
        AND (
            %(items)s::jsonb IS NULL
            OR EXISTS (
                SELECT
                FROM indelible.matching_items(
                    %(items)s::jsonb, recorded.type, recorded.tags, recorded.channel, recorded.stream
                )
            )
        )
    UNION ALL
    -- What is tried again, and what is queued behind that; not what is parked.
    SELECT recorded.recorded_at
    FROM indelible.group_first_pending(%(group_id)s, %(park_blocks_stream)s) AS firsts
    JOIN indelible.group_events AS noted
        ON noted.group_id = %(group_id)s AND noted.key = firsts.key AND noted.state <> 'parked'
    CROSS JOIN LATERAL (
        SELECT recorded_at
        FROM indelible.recorded_events
        WHERE recorded_events.position = noted.position
        OFFSET 0
    ) AS recorded
    WHERE firsts.state <> 'parked' AND noted.position <= %(after)s
    UNION ALL
    SELECT overdue.since
    FROM indelible.group_overdue_events(%(group_id)s) AS overdue
    WHERE %(deliver_when_valid)s
)
SELECT
    CASE WHEN %(head)s - %(after)s > %(counted)s THEN %(head)s - %(after)s ELSE count(*) END,
    coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::double precision
FROM behind

-- name: leave
-- One row without meaning: the worker has left.
SELECT indelible.group_leave(
    %(group_id)s, %(token)s, %(slices)s::smallint[], %(positions)s::bigint[],
    %(moments)s::timestamptz[], %(places)s::bigint[]
)

-- name: list
-- A row a group, in order of name.
SELECT name
FROM indelible.groups
ORDER BY name

-- name: parked
-- A row a parked event of a group, in order of position.
-- OFFSET 0 holds the planner to one look-up an event, by index.
SELECT
    noted.position,
    recorded.stream,
    recorded.version,
    recorded.type,
    noted.key,
    noted.attempts,
    noted.reason,
    noted.error,
    noted.updated_at,
    (
        SELECT count(*)
        FROM indelible.group_events AS later
        WHERE later.group_id = noted.group_id AND later.key = noted.key
            AND later.number > noted.number AND later.state = 'queued'
    )
FROM indelible.groups
JOIN indelible.group_events AS noted ON noted.group_id = groups.id
CROSS JOIN LATERAL (
    SELECT stream, version, type
    FROM indelible.recorded_events
    WHERE recorded_events.position = noted.position
    OFFSET 0
) AS recorded
WHERE groups.name = %(group)s
    AND noted.state = 'parked'
    AND (%(key)s::text IS NULL OR noted.key = %(key)s::text)
ORDER BY noted.position
LIMIT %(limit)s

-- name: rebalance
-- A row a slice that the worker has now: its number, where it stands, up to where it is suspect:
-- each a position and a key of what is due.
SELECT
    slice, after_position, (due).moment, (due).position, suspect, (suspect_due).moment,
    (suspect_due).position
FROM indelible.group_rebalance(
    %(group_id)s, %(token)s, %(round)s::int, %(slices)s::smallint[], %(positions)s::bigint[],
    %(moments)s::timestamptz[], %(places)s::bigint[],
    %(given_back)s::smallint[], %(wanted)s::int
)

-- name: record_attempt
-- One row: whether the event may be handled; false where it is finished.
SELECT indelible.group_record_attempt(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(is_noted)s,
    %(attempt)s::int, %(due_moment)s, %(upto)s, %(upto_moment)s, %(upto_place)s
)

-- name: record_failure
-- One row: whether the event is noted; false where it is finished after all, or erased.
SELECT indelible.group_record_failure(
    %(group_id)s, %(token)s, %(position)s, %(slice)s::smallint, %(key)s, %(is_noted)s,
    %(state)s, %(attempts)s::int, %(delay)s, %(reason)s, %(error)s,
    %(due_moment)s, %(upto)s, %(upto_moment)s, %(upto_place)s
)

-- name: renew_lease
-- One row: whether the lease stands.
SELECT indelible.group_renew_lease(%(group_id)s, %(token)s)

-- name: replay
-- One row: how many parked events are to be tried again.
SELECT indelible.group_replay(%(group)s, %(position)s, %(key)s)

-- name: reset
-- One row: the position that the group was sent to; null where there is no such group.
SELECT indelible.group_reset(%(group)s, %(after)s, %(since)s)

-- name: scheduled_count
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
                FROM indelible.matching_items(
                    %(items)s::jsonb, recorded.type, recorded.tags, recorded.channel, recorded.stream
                )
            )
        )
    LIMIT %(counted)s
) AS waiting

-- name: update
-- One row without meaning: the group has other settings.
SELECT indelible.group_update(
    %(group)s, %(items)s::jsonb, %(partition_by)s, %(max_attempts)s::int, %(retry_after)s,
    %(lease)s, %(park_blocks_stream)s, %(deliver_when_valid)s
)

-- name: workers
-- A row a worker of a group, in the order that they joined in.
SELECT
    workers.token, workers.name, count(slices.slice), workers.joined_at, workers.expires_at
FROM indelible.group_workers AS workers
LEFT JOIN indelible.group_slices AS slices USING (group_id, token)
WHERE workers.group_id = %(group_id)s
    AND workers.expires_at > clock_timestamp() -- the others are dead, and are taken for it soon
GROUP BY workers.group_id, workers.token
ORDER BY workers.token
