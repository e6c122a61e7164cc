-- name: ack
-- One row: true if this transaction finishes the event, false if it was finished before.
SELECT indelible.group_ack(
    group_id => %(group_id)s,
    token => %(token)s,
    "position" => %(position)s,
    slice => %(slice)s::smallint,
    is_tracked => %(is_tracked)s,
    due_at => %(due_at)s,
    upto => %(upto)s,
    upto_due_at => %(upto_due_at)s,
    upto_due_position => %(upto_due_position)s
)

-- name: blocked_keys
-- One row per key of a worker whose later events have to wait for an earlier one.
SELECT first.key
FROM indelible.group_first_pending(%(group_id)s, %(park_blocks_stream)s) AS first
WHERE %(token)s = (
    SELECT slices.token
    FROM indelible.group_slices AS slices
    WHERE slices.group_id = %(group_id)s AND slices.slice = first.slice
)

-- name: checkpoint
-- The group's checkpoint; no row if there is no such group.
SELECT indelible.group_checkpoint(id)
FROM indelible.groups
WHERE name = %(group)s

-- name: create
-- One row: whether the group was created.
SELECT indelible.group_create(
    group_name => %(group)s,
    items => %(items)s::jsonb,
    partition_by => %(partition_by)s,
    after_position => %(after)s,
    since => %(since)s,
    max_attempts => %(max_attempts)s::int,
    retry_seconds => %(retry_seconds)s,
    lease_seconds => %(lease_seconds)s,
    park_blocks_stream => %(park_blocks_stream)s,
    deliver_when_valid => %(deliver_when_valid)s
)

-- name: delete
-- One row: whether the group existed.
SELECT indelible.group_delete(%(group)s)

-- name: discard
-- One row: how many parked events were discarded.
SELECT indelible.group_discard(%(group)s, %(position)s, %(key)s)

-- name: due_window
-- The valid time and the position of the event that is `count` events further, in order of valid
-- time, then of position; no row if there are fewer. Without filters: with them the planner would
-- expect few events, and sort them all.
SELECT given_valid_at, position
FROM indelible.recorded_events
WHERE given_valid_at IS NOT NULL
    AND (given_valid_at, position) > (%(above_valid_at)s::timestamptz, %(above_position)s)
ORDER BY given_valid_at, position
OFFSET %(count)s - 1
LIMIT 1

-- name: end_leases
-- One row per lease that has ended now: its id, the positions of its finished events, and those of
-- its failed ones.
SELECT id, finished, failed
FROM indelible.group_end_leases(
    group_id => %(group_id)s,
    token => %(token)s,
    ended => %(ended)s::uuid[],
    is_early => %(is_early)s,
    done => %(done)s::uuid[]
)

-- name: enqueue
-- One row: true if the event is queued, or finished; false if it has no earlier event to wait for.
SELECT indelible.group_enqueue(
    group_id => %(group_id)s,
    token => %(token)s,
    "position" => %(position)s,
    slice => %(slice)s::smallint,
    key => %(key)s,
    due_at => %(due_at)s,
    upto => %(upto)s,
    upto_due_at => %(upto_due_at)s,
    upto_due_position => %(upto_due_position)s
)

-- name: extend_lease
-- One row: when the lease expires now; null if it is over.
SELECT indelible.group_extend_lease(%(lease)s, %(seconds)s)

-- name: fetch
-- One row per event of a worker's slices, in order of position: the event, its key, its slice, and
-- its valid time if that differs from its recorded time.
SELECT
    position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at, key,
    slice, due_at
FROM indelible.group_fetch(
    group_id => %(group_id)s,
    token => %(token)s,
    partition_by => %(partition_by)s,
    items => %(items)s::jsonb,
    epoch => %(epoch)s::uuid,
    anchor => %(anchor)s::bigint,
    anchor_id => %(anchor_id)s::uuid,
    after => %(after)s,
    upto => %(upto)s,
    max_count => %(limit)s
)

-- name: fetch_due
-- One row per event of a worker's slices that has become due, in order of valid time, then of
-- position: the event, its key, its slice, and its valid time.
-- The token is in the condition: a worker that lost its lease reads nothing. OFFSET 0 makes the
-- planner look up each event by index, even if it has no statistics yet.
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
        > (%(above_valid_at)s::timestamptz, %(above_position)s)
    AND (recorded.given_valid_at, recorded.position)
        <= (%(until_valid_at)s::timestamptz, %(until_position)s)
    AND recorded.position <= %(upto)s
    AND recorded.data IS NOT NULL -- erased events are skipped
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
ORDER BY recorded.given_valid_at, recorded.position

-- name: fetch_retries
-- One row per key of a worker: its first event in group_events, unless that is parked. The event,
-- its key and slice, its state and attempts, and the seconds until it may be retried. Nulls for an
-- event that is no longer in the log. OFFSET 0 makes the planner look up each event by index.
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

-- name: find_lease
-- A lease: its events, the positions of those with an outcome, when it expires, and the settings of
-- its group for failures; no row if it is over.
SELECT
    leases.events, leases.finished || leases.failed, leases.expires_at, groups.max_attempts,
    groups.retry_seconds
FROM indelible.group_leases AS leases
JOIN indelible.groups ON groups.id = leases.group_id
WHERE leases.id = %(lease)s
    AND leases.expires_at > clock_timestamp()
    AND groups.name = %(group)s

-- name: get
-- The group's settings and status; no row if there is no such group.
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
    (SELECT min(progress.position) FROM indelible.group_slice_progress(groups.id) AS progress),
    count(tracked.state) FILTER (WHERE tracked.state IN ('retry', 'in_progress')),
    count(tracked.state) FILTER (WHERE tracked.state = 'queued'),
    count(tracked.state) FILTER (WHERE tracked.state = 'parked')
FROM indelible.groups
LEFT JOIN indelible.group_events AS tracked ON tracked.group_id = groups.id
WHERE groups.name = %(group)s
GROUP BY groups.id

-- name: heartbeat
-- One row: how many slices are the worker's share, and how many have no owner.
SELECT share, unowned
FROM indelible.group_heartbeat(
    group_id => %(group_id)s,
    token => %(token)s,
    round => %(round)s::int,
    checkpoint => %(checkpoint)s,
    checkpoint_due_at => %(checkpoint_due_at)s,
    checkpoint_due_position => %(checkpoint_due_position)s,
    delivered => %(delivered)s,
    delivered_due_at => %(delivered_due_at)s,
    delivered_due_position => %(delivered_due_position)s,
    slices => %(slices)s::smallint[],
    positions => %(positions)s::bigint[],
    due_times => %(due_times)s::timestamptz[],
    due_positions => %(due_positions)s::bigint[]
)

-- name: join
-- One row: the group's id, the worker's token and the epoch of the log; nulls if there is no such
-- group.
SELECT group_id, token, epoch
FROM indelible.group_join(%(group)s, %(worker)s, %(instance)s)

-- name: lag
-- One row: how many events match, are due, and are not finished; and for how many seconds the first
-- of them has been due. If there are more than `max_count` positions, the positions are counted.
WITH behind AS MATERIALIZED (
    SELECT
        CASE
            WHEN %(deliver_when_valid)s THEN greatest(recorded.recorded_at, recorded.valid_at)
            ELSE recorded.recorded_at
        END AS since
    FROM indelible.recorded_events AS recorded
    WHERE recorded.position > %(after)s
        AND recorded.position <= least(%(head)s, %(after)s + %(max_count)s)
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
                    items => %(items)s::jsonb, type => recorded.type, tags => recorded.tags,
                    channel => recorded.channel, stream => recorded.stream
                )
            )
        )
    UNION ALL
    -- Events to be retried, and those queued behind them; not parked ones.
    SELECT recorded.recorded_at
    FROM indelible.group_first_pending(%(group_id)s, %(park_blocks_stream)s) AS first
    JOIN indelible.group_events AS tracked
        ON tracked.group_id = %(group_id)s AND tracked.key = first.key AND tracked.state <> 'parked'
    CROSS JOIN LATERAL (
        SELECT recorded_at
        FROM indelible.recorded_events
        WHERE recorded_events.position = tracked.position
        OFFSET 0
    ) AS recorded
    WHERE first.state <> 'parked' AND tracked.position <= %(after)s
    UNION ALL
    SELECT overdue.since
    FROM indelible.group_overdue_events(%(group_id)s) AS overdue
    WHERE %(deliver_when_valid)s
)
SELECT
    CASE WHEN %(head)s - %(after)s > %(max_count)s THEN %(head)s - %(after)s ELSE count(*) END,
    coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::double precision
FROM behind

-- name: leave
-- One row without content: the worker has left.
SELECT indelible.group_leave(
    group_id => %(group_id)s,
    token => %(token)s,
    slices => %(slices)s::smallint[],
    positions => %(positions)s::bigint[],
    due_times => %(due_times)s::timestamptz[],
    due_positions => %(due_positions)s::bigint[]
)

-- name: lend
-- One row: when the lease expires.
SELECT indelible.group_lend(
    lease_id => %(lease)s,
    group_id => %(group_id)s,
    token => %(token)s,
    client => %(client)s,
    events => %(events)s::jsonb,
    seconds => %(seconds)s
)

-- name: list
-- One row per group, in order of name.
SELECT name
FROM indelible.groups
ORDER BY name

-- name: look_at_leases
-- One row per lease that has expired, or has more outcomes than its worker knows: its id, the
-- positions of its finished events, those of its failed ones, and whether it has expired.
SELECT leases.id, leases.finished, leases.failed, leases.expires_at <= clock_timestamp()
FROM unnest(%(leases)s::uuid[], %(counts)s::int[]) AS known (id, count)
JOIN indelible.group_leases AS leases USING (id)
WHERE leases.expires_at <= clock_timestamp()
    OR cardinality(leases.finished) + cardinality(leases.failed) > known.count

-- name: parked
-- One row per parked event of a group after a position, in order of position.
-- OFFSET 0 makes the planner look up each event by index.
SELECT
    tracked.position,
    recorded.stream,
    recorded.version,
    recorded.type,
    tracked.key,
    tracked.attempts,
    tracked.reason,
    tracked.error,
    tracked.updated_at,
    (
        SELECT count(*)
        FROM indelible.group_events AS later
        WHERE later.group_id = tracked.group_id AND later.key = tracked.key
            AND later.number > tracked.number AND later.state = 'queued'
    )
FROM indelible.groups
JOIN indelible.group_events AS tracked ON tracked.group_id = groups.id
CROSS JOIN LATERAL (
    SELECT stream, version, type
    FROM indelible.recorded_events
    WHERE recorded_events.position = tracked.position
    OFFSET 0
) AS recorded
WHERE groups.name = %(group)s
    AND tracked.state = 'parked'
    AND tracked.position > %(after)s
    AND (%(key)s::text IS NULL OR tracked.key = %(key)s::text)
ORDER BY tracked.position
LIMIT %(limit)s

-- name: rebalance
-- One row per slice that the worker owns now: its number, its progress, and up to where its events
-- are suspect; both are a position and a due key.
SELECT
    slice, after_position, (due).due_at, (due).position, suspect, (suspect_due).due_at,
    (suspect_due).position
FROM indelible.group_rebalance(
    group_id => %(group_id)s,
    token => %(token)s,
    round => %(round)s::int,
    slices => %(slices)s::smallint[],
    positions => %(positions)s::bigint[],
    due_times => %(due_times)s::timestamptz[],
    due_positions => %(due_positions)s::bigint[],
    to_release => %(to_release)s::smallint[],
    to_acquire => %(to_acquire)s::int
)

-- name: record_attempt
-- One row: whether the event may be handled; false if it is finished.
SELECT indelible.group_record_attempt(
    group_id => %(group_id)s,
    token => %(token)s,
    "position" => %(position)s,
    slice => %(slice)s::smallint,
    key => %(key)s,
    is_tracked => %(is_tracked)s,
    attempt => %(attempt)s::int,
    due_at => %(due_at)s,
    upto => %(upto)s,
    upto_due_at => %(upto_due_at)s,
    upto_due_position => %(upto_due_position)s
)

-- name: record_failure
-- One row: whether the failure is recorded; false if the event is finished after all, or erased.
SELECT indelible.group_record_failure(
    group_id => %(group_id)s,
    token => %(token)s,
    "position" => %(position)s,
    slice => %(slice)s::smallint,
    key => %(key)s,
    is_tracked => %(is_tracked)s,
    state => %(state)s,
    attempts => %(attempts)s::int,
    delay => %(delay)s,
    reason => %(reason)s,
    error => %(error)s,
    due_at => %(due_at)s,
    upto => %(upto)s,
    upto_due_at => %(upto_due_at)s,
    upto_due_position => %(upto_due_position)s
)

-- name: renew_lease
-- One row: whether the worker still holds its lease.
SELECT indelible.group_renew_lease(%(group_id)s, %(token)s)

-- name: replay
-- One row: how many parked events are to be retried.
SELECT indelible.group_replay(%(group)s, %(position)s, %(key)s)

-- name: reset
-- One row: the position that the group was moved to; null if there is no such group.
SELECT indelible.group_reset(%(group)s, %(after)s, %(since)s)

-- name: scheduled_count
-- One row: how many matching events are not due yet, counted up to `max_count`.
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
                    items => %(items)s::jsonb, type => recorded.type, tags => recorded.tags,
                    channel => recorded.channel, stream => recorded.stream
                )
            )
        )
    LIMIT %(max_count)s
) AS waiting

-- name: settle_lease
-- One row: true if the outcomes are recorded, false if an event has one already, null if the lease
-- is over.
SELECT indelible.group_settle_lease(%(lease)s, %(outcomes)s::jsonb)

-- name: update
-- One row without content: the settings are changed.
SELECT indelible.group_update(
    group_name => %(group)s,
    items => %(items)s::jsonb,
    partition_by => %(partition_by)s,
    max_attempts => %(max_attempts)s::int,
    retry_seconds => %(retry_seconds)s,
    lease_seconds => %(lease_seconds)s,
    park_blocks_stream => %(park_blocks_stream)s,
    deliver_when_valid => %(deliver_when_valid)s
)

-- name: workers
-- One row per worker of a group, in the order in which they joined.
SELECT
    workers.token, workers.name, count(slices.slice), workers.joined_at, workers.expires_at
FROM indelible.group_workers AS workers
LEFT JOIN indelible.group_slices AS slices USING (group_id, token)
WHERE workers.group_id = %(group_id)s
    AND workers.expires_at > clock_timestamp() -- the others are dead, and are removed soon
GROUP BY workers.group_id, workers.token
ORDER BY workers.token
