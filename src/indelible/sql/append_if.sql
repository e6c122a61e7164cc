-- One row: outcome, last_version, last_position, recorded_at, facts; where the condition fails the facts
-- are the positions of events in the way.
SELECT outcome, last_version, last_position, recorded_at, facts
FROM indelible.append_if(
    jsonb_build_array(
        jsonb_build_object(
            'stream', %(stream)s::text,
            'channel', %(channel)s::text,
            'expected', %(expected)s::bigint,
            'events', %(events)s::jsonb
        )
    ),
    %(conditions)s::jsonb
)
