-- A row an event that matches any of the items, in order of position: the head, then the event;
-- where there is none, a row with the head alone.
SELECT
    head, position, stream, version, id, type, data, metadata, tags, channel, recorded_at, valid_at
FROM indelible.read_matching(%(items)s::jsonb)
