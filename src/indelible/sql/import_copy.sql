-- No rows: takes the events whose places import_begin has secured.
COPY indelible.events (
    position, stream_id, version, recorded_at, id, type, data, metadata, tags, valid_at, erasure
)
FROM STDIN (FORMAT BINARY)
