-- Views for readers: the log and the streams, archived or not, and the documents of projections.

-- Both branches have an index for each order of reading, so that the planner merges them.
CREATE OR REPLACE VIEW indelible.all_events AS
SELECT
    position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at, erasure,
    false AS is_archived
FROM indelible.events
UNION ALL
SELECT
    position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at, erasure,
    true AS is_archived
FROM indelible.archived_events;
COMMENT ON VIEW indelible.all_events IS
    'The log, archived or not. is_archived is a constant in each branch, so a condition on it excludes a branch.';

CREATE OR REPLACE VIEW indelible.recorded_events AS
SELECT
    events.position,
    events.stream_id,
    streams.name::text AS stream,
    events.version,
    events.id,
    events.type::text,
    CASE WHEN events.erasure IS NULL THEN events.data END AS data,
    events.metadata,
    events.tags,
    streams.channel::text,
    events.recorded_at,
    coalesce(events.valid_at, events.recorded_at) AS valid_at,
    events.valid_at AS given_valid_at,
    events.is_archived
FROM indelible.all_events AS events
-- LEFT: if a query uses neither name nor channel, the planner omits the join.
LEFT JOIN indelible.streams ON streams.id = events.stream_id;
COMMENT ON VIEW indelible.recorded_events IS
    'Each event with its stream''s name and channel. To follow the log, read up to head().';

-- Its two branches, each with the statistics of its tables. Statements that read the log in pages
-- merge pages of both. For a union the planner does not know the number of streams, so it would not
-- memoize them.
CREATE OR REPLACE VIEW indelible.recorded_unarchived AS
SELECT
    events.position,
    events.stream_id,
    streams.name::text AS stream,
    events.version,
    events.id,
    events.type::text,
    CASE WHEN events.erasure IS NULL THEN events.data END AS data,
    events.metadata,
    events.tags,
    streams.channel::text,
    events.recorded_at,
    coalesce(events.valid_at, events.recorded_at) AS valid_at,
    events.valid_at AS given_valid_at
FROM indelible.events
LEFT JOIN indelible.streams ON streams.id = events.stream_id;
COMMENT ON VIEW indelible.recorded_unarchived IS 'The recorded_events that are not archived.';

CREATE OR REPLACE VIEW indelible.recorded_archived AS
SELECT
    events.position,
    events.stream_id,
    streams.name::text AS stream,
    events.version,
    events.id,
    events.type::text,
    CASE WHEN events.erasure IS NULL THEN events.data END AS data,
    events.metadata,
    events.tags,
    streams.channel::text,
    events.recorded_at,
    coalesce(events.valid_at, events.recorded_at) AS valid_at,
    events.valid_at AS given_valid_at
FROM indelible.archived_events AS events
LEFT JOIN indelible.streams ON streams.id = events.stream_id;
COMMENT ON VIEW indelible.recorded_archived IS 'The recorded_events that are archived.';

CREATE OR REPLACE VIEW indelible.recorded_streams AS
SELECT
    streams.id AS stream_id,
    streams.name::text AS stream,
    streams.channel::text,
    streams.version,
    streams.closed_at,
    streams.archived_at,
    streams.erased_at
FROM indelible.streams;
COMMENT ON VIEW indelible.recorded_streams IS
    'Each stream with its channel and the version of its last event.';

CREATE OR REPLACE VIEW indelible.documents AS
SELECT
    served.name AS projection,
    served.version,
    documents.key,
    documents.document,
    documents.position
FROM (
    SELECT DISTINCT ON (name) name, version, id
    FROM indelible.projections
    WHERE state = 'serving' AND kind = 'documents'
    ORDER BY name, version DESC
) AS served
JOIN indelible.projection_documents AS documents ON documents.projection_id = served.id;
COMMENT ON VIEW indelible.documents IS
    'The documents of each projection, in the newest version that serves: WHERE projection = ''orders''.';
