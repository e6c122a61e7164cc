-- name: acquire
-- One row: the token, the checkpoint and its epoch; no row where somebody else holds the partition.
SELECT token, position, epoch
FROM indelible.projection_acquire(
    %(projection_id)s, %(partition)s::smallint, %(owner)s, %(lease)s::double precision
)

-- name: advance
-- One row: whether the checkpoint was moved just now.
SELECT indelible.projection_advance(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(after)s, %(upto)s, %(events)s
)

-- name: heartbeat
-- One row: the checkpoint. Raises IND05 where others have taken over.
SELECT indelible.projection_heartbeat(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: builds
-- A row a partition of each build of a projection that is not retired, in order.
SELECT
    projections.id, projections.name, projections.version, projections.kind,
    projections.lifecycle, projections.state, projections.query::text,
    parts.partition, parts.position, parts.owner, nullif(parts.expires_at, '-infinity'),
    parts.handled, parts.is_stopped, parts.error, parts.error_position
FROM indelible.projections
JOIN indelible.projection_partitions AS parts ON parts.projection_id = projections.id
WHERE projections.state <> 'retired'
    AND (%(name)s::text IS NULL OR projections.name = %(name)s::text)
ORDER BY projections.name, projections.version, projections.id, parts.partition

-- name: commit
-- One row: whether the batch was written just now.
SELECT indelible.projection_commit(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(after)s, %(upto)s, %(events)s,
    %(changed)s::jsonb, %(removed)s::text[]
)

-- name: cut_over
-- One row: whether the build serves.
SELECT indelible.projection_cut_over(%(projection_id)s)

-- name: discard
-- One row: how many parked events were given up.
SELECT indelible.projection_discard(%(name)s, %(position)s::bigint)

-- name: documents_all
-- A row a document of one version, in order of key. Columns and rows without a document as of documents_get.
SELECT checkpoint, head, key, document
FROM indelible.documents_list(
    %(name)s, %(version)s::integer, %(after)s::text, %(limit)s::bigint
)

-- name: drop_retired
-- One row: how many retired builds are kept, since somebody is still at it.
SELECT indelible.projection_drop_retired()

-- name: find_documents
-- A row a document whose fields have given values, of one version, in order of key. Columns and rows without a document as of documents_get.
SELECT checkpoint, head, key, document
FROM indelible.documents_find(
    %(name)s, %(version)s::integer, %(field)s::text, %(value)s::jsonb, %(fields)s::jsonb,
    %(after)s::text, %(limit)s::bigint
)

-- name: force_acquire
-- A row a partition of a build that is to serve: its number, its token, its checkpoint.
SELECT partition, token, position
FROM indelible.projection_force_lease(%(projection_id)s)
ORDER BY partition

-- name: get_documents
-- A row a document of those asked for, of one version, in order of key: checkpoint, head, key, document; one row without a document where there is none, no row where the version does not serve.
SELECT checkpoint, head, key, document
FROM indelible.documents_get(%(name)s, %(version)s::integer, %(keys)s::text[])

-- name: lag
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
                FROM indelible.matching_items(
                    %(items)s::jsonb, recorded.type, recorded.tags, recorded.channel, recorded.stream
                )
            )
        )
)
SELECT
    CASE WHEN %(head)s - %(after)s > %(counted)s THEN %(head)s - %(after)s ELSE count(*) END,
    coalesce(extract(epoch FROM clock_timestamp() - min(recorded_at)), 0)::double precision
FROM behind

-- name: load_documents
-- A row a document that is there, of those asked for.
SELECT key, document
FROM indelible.projection_documents
WHERE projection_id = %(projection_id)s
    AND key = ANY(%(keys)s::text[])

-- name: lock
-- One row, of nothing. Raises IND05 where others have taken over.
SELECT indelible.projection_fence(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: lock_documents
-- A row a document that is there, of those asked for, all of which are kept from others; one row without a document where there is none, no row where the projection is not built yet.
SELECT held.id, taken.key, taken.document
FROM indelible.projection_lock_build(%(name)s, %(version)s::integer) AS held
LEFT JOIN LATERAL indelible.projection_lock_documents(held.id, %(keys)s::text[]) AS taken ON true

-- name: lock_inline_build
-- One row: the build of an inline projection that serves; no row where it is not built yet.
SELECT id
FROM indelible.projection_lock_build(%(name)s, %(version)s::integer)

-- name: park
-- One row, of nothing. Raises IND05 where others have taken over.
SELECT indelible.projection_park(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(error)s, %(position)s::bigint
)

-- name: parked_events
-- A row an event that a projection leaves out, in order of position: it, its version, and why.
-- OFFSET 0 holds the planner to one look-up an event, by index.
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

-- name: parked_positions
-- A row an event that a build leaves out: its position, and the partition that leaves it out.
SELECT position, partition
FROM indelible.projection_parked
WHERE projection_id = %(projection_id)s

-- name: record_failure
-- One row, of nothing. Raises IND05 where others have taken over.
SELECT indelible.projection_record_failure(
    %(projection_id)s, %(partition)s::smallint, %(token)s, %(error)s, %(position)s::bigint,
    %(attempts)s::integer, %(wait)s::double precision, %(is_final)s
)

-- name: register
-- A row a build of a projection that is not retired, the one that serves first.
SELECT id, state, lifecycle, fits
FROM indelible.projection_register(
    %(name)s, %(version)s::integer, %(kind)s, %(lifecycle)s, %(items)s::jsonb,
    %(partitions)s::smallint, %(indexes)s::text[]
)

-- name: release
-- One row, of nothing.
SELECT indelible.projection_release(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: renew_lease
-- One row: whether the lease stands.
SELECT indelible.projection_renew_lease(%(projection_id)s, %(partition)s::smallint, %(token)s)

-- name: restart
-- One row: how many partitions were stopped.
SELECT indelible.projection_restart(%(name)s)

-- name: retire
-- One row: how many builds of the version there were.
SELECT indelible.projection_retire(%(name)s, %(version)s::integer)

-- name: retry_state
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

-- name: start_rebuild
-- One row: the build that is beside the one that serves.
SELECT indelible.projection_start_rebuild(%(name)s, %(version)s::integer)

-- name: status
-- A row a build that is not retired: its query, events per second, how many processes work on it, and how many events it leaves out.
SELECT
    projections.id,
    projections.query::text,
    alive.events_per_second,
    alive.workers,
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
) AS alive
WHERE projections.state <> 'retired'
    AND (%(name)s::text IS NULL OR projections.name = %(name)s::text)

-- name: stored_documents
-- A row a document of a build, in order of key.
SELECT key, document
FROM indelible.projection_documents
WHERE projection_id = %(projection_id)s
    AND key > %(after)s
ORDER BY key
LIMIT %(limit)s

-- name: try_lock
-- One row: whether appends to an inline projection are held up until the transaction ends; waits a fifth of a second at most.
SELECT indelible.projection_try_lock(indelible.projection_lock_key(%(name)s))

-- name: work
-- A row a partition of each build, retired ones too: which, whose it is, and how far.
SELECT
    projections.id, projections.name, projections.version, projections.lifecycle,
    projections.state, projections.live_after, parts.partition, parts.position,
    CASE WHEN parts.expires_at > clock_timestamp() THEN parts.owner END,
    parts.is_stopped
FROM indelible.projections
JOIN indelible.projection_partitions AS parts ON parts.projection_id = projections.id
ORDER BY projections.id, parts.partition

-- name: worker_heartbeat
-- One row, of nothing.
SELECT indelible.projection_worker_heartbeat(
    %(worker)s, %(projections)s::bigint[], %(lease)s::double precision,
    %(held_projections)s::bigint[], %(held_partitions)s::smallint[]
)

-- name: worker_leave
-- One row, of nothing.
SELECT indelible.projection_worker_leave(%(worker)s)

-- name: worker_renew_lease
-- One row: true.
SELECT indelible.projection_worker_renew_lease(
    %(worker)s, %(lease)s::double precision,
    %(held_projections)s::bigint[], %(held_partitions)s::smallint[]
)

-- name: workers
-- A row a process that keeps projections up to date and is alive: its name, the builds it can run.
SELECT name, projections
FROM indelible.projection_workers
WHERE expires_at > clock_timestamp()

-- name: write_documents
-- One row, of nothing.
SELECT indelible.projection_write_documents(%(projection_id)s, %(changed)s::jsonb, %(removed)s::text[])
