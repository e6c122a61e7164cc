-- name: acquire
-- One row: the token, the checkpoint and its epoch; no row if another worker holds the partition.
SELECT token, position, epoch
FROM indelible.projection_acquire(
    %(projection_id)s, %(partition)s::smallint, %(owner)s, %(lease)s::double precision
)

-- name: advance
-- One row: whether this call moved the checkpoint.
SELECT indelible.projection_advance(
    projection_id => %(projection_id)s,
    partition => %(partition)s::smallint,
    token => %(token)s,
    after_position => %(after)s,
    upto_position => %(upto)s,
    event_count => %(event_count)s
)

-- name: builds
-- One row per partition of each build that is not retired, in order.
SELECT
    projections.id, projections.name, projections.version, projections.kind,
    projections.lifecycle, projections.state, projections.query::text, projections.indexes,
    parts.partition, parts.position, parts.owner, nullif(parts.expires_at, '-infinity'),
    parts.handled, parts.is_stopped, parts.error, parts.error_position
FROM indelible.projections
JOIN indelible.projection_partitions AS parts ON parts.projection_id = projections.id
WHERE projections.state <> 'retired'
    AND (%(name)s::text IS NULL OR projections.name = %(name)s::text)
ORDER BY projections.name, projections.version, projections.id, parts.partition

-- name: commit
-- One row: whether this call wrote the batch.
SELECT indelible.projection_commit(
    projection_id => %(projection_id)s,
    partition => %(partition)s::smallint,
    token => %(token)s,
    after_position => %(after)s,
    upto_position => %(upto)s,
    event_count => %(event_count)s,
    changed => %(changed)s::jsonb,
    removed => %(removed)s::text[]
)

-- name: cut_over
-- One row: whether the build serves.
SELECT indelible.projection_cut_over(%(projection_id)s)

-- name: discard
-- One row: how many parked events were discarded.
SELECT indelible.projection_discard(%(name)s, %(position)s::bigint)

-- name: documents_all
-- One row per document of one version, in order of key; columns and empty rows as in get_documents.
SELECT checkpoint, head, key, document
FROM indelible.documents_list(
    %(name)s, %(version)s::integer, %(after)s::text, %(limit)s::bigint
)

-- name: drop_retired
-- One row: how many retired builds remain because they are in use.
SELECT indelible.projection_drop_retired()

-- name: find_documents
-- One row per document with the given field values, of one version, in order of key; columns and
-- empty rows as in get_documents.
SELECT checkpoint, head, key, document
FROM indelible.documents_find(
    name => %(name)s,
    version => %(version)s::integer,
    field => %(field)s::text,
    value => %(value)s::jsonb,
    fields => %(fields)s::jsonb,
    after_key => %(after)s::text,
    max_rows => %(limit)s::bigint
)

-- name: force_acquire
-- One row per partition of a build that is about to serve: its number, its token, its checkpoint.
SELECT partition, token, position
FROM indelible.projection_force_lease(%(projection_id)s)
ORDER BY partition

-- name: get_documents
-- One row per document of these keys, of one version, in order of key: checkpoint, head, key,
-- document. One row without a document if none exists; no row if the version does not serve.
SELECT checkpoint, head, key, document
FROM indelible.documents_get(%(name)s, %(version)s::integer, %(keys)s::text[])

-- name: heartbeat
-- One row: the checkpoint. Raises IND05 if another worker has taken over.
SELECT indelible.projection_heartbeat(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: lag
-- One row: how many matching events are after a position, and the age of the first of them.
-- If there are more than `max_count` positions, the positions are counted.
WITH behind AS MATERIALIZED (
    SELECT recorded.recorded_at
    FROM indelible.recorded_events AS recorded
    WHERE recorded.position > %(after)s
        AND recorded.position <= least(%(head)s, %(after)s + %(max_count)s)
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
)
SELECT
    CASE WHEN %(head)s - %(after)s > %(max_count)s THEN %(head)s - %(after)s ELSE count(*) END,
    coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::double precision
FROM behind

-- name: load_documents
-- One row per existing document of these keys.
SELECT key, document
FROM indelible.projection_documents
WHERE projection_id = %(projection_id)s
    AND key = ANY(%(keys)s::text[])

-- name: lock
-- One row without content. Raises IND05 if another worker has taken over.
SELECT indelible.projection_fence(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: lock_documents
-- Locks documents. One row per existing document of these keys; one row without a document if there
-- is none, no row if the projection is not built yet.
SELECT build.id, locked.key, locked.document
FROM indelible.projection_lock_build(%(name)s, %(version)s::integer) AS build
LEFT JOIN LATERAL indelible.projection_lock_documents(build.id, %(keys)s::text[]) AS locked ON true

-- name: lock_inline_build
-- One row: the serving build of an inline projection; no row if it is not built yet.
SELECT id
FROM indelible.projection_lock_build(%(name)s, %(version)s::integer)

-- name: park
-- One row without content. Raises IND05 if another worker has taken over.
SELECT indelible.projection_park(
    projection_id => %(projection_id)s,
    partition => %(partition)s::smallint,
    token => %(token)s,
    error => %(error)s,
    "position" => %(position)s::bigint
)

-- name: parked_events
-- One row per event that a projection skips, in order of position: the event, the projection's
-- version, and the error. OFFSET 0 makes the planner look up each event by index.
SELECT
    projections.version, parked.position, recorded.stream, recorded.type, parked.partition,
    parked.error, parked.parked_at
FROM indelible.projections
JOIN indelible.projection_parked AS parked ON parked.projection_id = projections.id
CROSS JOIN LATERAL (
    SELECT stream, type
    FROM indelible.recorded_events
    WHERE recorded_events.position = parked.position
    OFFSET 0
) AS recorded
WHERE projections.name = %(name)s
    AND projections.state <> 'retired'
    AND parked.discarded_at IS NULL
ORDER BY parked.position, projections.version, parked.partition
LIMIT %(limit)s::bigint

-- name: parked_positions
-- One row per event that a build skips: its position, and the partition that skips it.
SELECT position, partition
FROM indelible.projection_parked
WHERE projection_id = %(projection_id)s

-- name: record_failure
-- One row without content. Raises IND05 if another worker has taken over.
SELECT indelible.projection_record_failure(
    projection_id => %(projection_id)s,
    partition => %(partition)s::smallint,
    token => %(token)s,
    error => %(error)s,
    "position" => %(position)s::bigint,
    attempts => %(attempts)s::integer,
    delay => %(delay)s::double precision,
    is_final => %(is_final)s
)

-- name: register
-- One row per build of a projection that is not retired, the serving one first.
SELECT id, state, lifecycle, matches
FROM indelible.projection_register(
    name => %(name)s,
    version => %(version)s::integer,
    kind => %(kind)s,
    declared_lifecycle => %(lifecycle)s,
    items => %(items)s::jsonb,
    partitions => %(partitions)s::smallint,
    index_fields => %(indexes)s::text[]
)

-- name: register_tables
-- As register; executes the DDL if the projection is new.
SELECT id, state, lifecycle, matches
FROM indelible.projection_register_tables(
    name => %(name)s,
    version => %(version)s::integer,
    kind => %(kind)s,
    declared_lifecycle => %(lifecycle)s,
    items => %(items)s::jsonb,
    partitions => %(partitions)s::smallint,
    index_fields => %(indexes)s::text[],
    ddl => %(ddl)s
)

-- name: release
-- One row without content.
SELECT indelible.projection_release(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: renew_lease
-- One row: whether the worker still holds its lease.
SELECT indelible.projection_renew_lease(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: restart
-- One row: how many stopped partitions were restarted.
SELECT indelible.projection_restart(%(name)s)

-- name: retire
-- One row: how many builds of the version there were.
SELECT indelible.projection_retire(%(name)s, %(version)s::integer)

-- name: retry_state
-- One row: how often the next batch of a partition has failed, the seconds until it may be retried,
-- whether it is stopped, and the events that it skips.
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

-- name: start_rebuild
-- One row: the build that is beside the serving one.
SELECT indelible.projection_start_rebuild(%(name)s, %(version)s::integer)

-- name: status
-- One row per build that is not retired: its query, events per second, how many processes work on
-- it, and how many events it skips.
SELECT
    projections.id,
    projections.query::text,
    live.events_per_second,
    live.workers,
    (
        SELECT count(DISTINCT parked.position)
        FROM indelible.projection_parked AS parked
        WHERE parked.projection_id = projections.id AND parked.discarded_at IS NULL
    )
FROM indelible.projections
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(parts.events_per_second), 0) AS events_per_second,
        count(DISTINCT parts.owner) AS workers
    FROM indelible.projection_partitions AS parts
    WHERE parts.projection_id = projections.id AND parts.expires_at > clock_timestamp()
) AS live
WHERE projections.state <> 'retired'
    AND (%(name)s::text IS NULL OR projections.name = %(name)s::text)

-- name: stored_documents
-- One row per document of a build, in order of key.
SELECT key, document
FROM indelible.projection_documents
WHERE projection_id = %(projection_id)s
    AND key > %(after)s
ORDER BY key
LIMIT %(limit)s

-- name: try_lock
-- One row: whether appends to an inline projection are blocked until the transaction ends. Waits
-- 200 ms at most.
SELECT indelible.projection_try_lock(indelible.projection_lock_key(%(name)s))

-- name: work
-- One row per partition of each build, also of retired ones: its build, its owner, its checkpoint.
SELECT
    projections.id, projections.name, projections.version, projections.lifecycle,
    projections.state, projections.live_after, parts.partition, parts.position,
    CASE WHEN parts.expires_at > clock_timestamp() THEN parts.owner END,
    parts.is_stopped
FROM indelible.projections
JOIN indelible.projection_partitions AS parts ON parts.projection_id = projections.id
ORDER BY projections.id, parts.partition

-- name: worker_heartbeat
-- One row without content.
SELECT indelible.projection_worker_heartbeat(
    worker => %(worker)s,
    projection_ids => %(projection_ids)s::bigint[],
    lease => %(lease)s::double precision,
    held_projections => %(held_projections)s::bigint[],
    held_partitions => %(held_partitions)s::smallint[]
)

-- name: worker_leave
-- One row without content.
SELECT indelible.projection_worker_leave(%(worker)s)

-- name: worker_renew_lease
-- One row: true.
SELECT indelible.projection_worker_renew_lease(
    %(worker)s, %(lease)s::double precision,
    %(held_projections)s::bigint[], %(held_partitions)s::smallint[]
)

-- name: workers
-- One row per live process that runs projections: its name, and the builds that it can run.
SELECT name, projections
FROM indelible.projection_workers
WHERE expires_at > clock_timestamp()

-- name: write_documents
-- One row without content.
SELECT indelible.projection_write_documents(%(projection_id)s, %(changed)s::jsonb, %(removed)s::text[])
