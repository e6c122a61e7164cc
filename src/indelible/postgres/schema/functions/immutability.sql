-- Triggers that keep stored rows immutable: only the functions of the store may change them. That
-- holds for every role, the owner included, also if session_replication_role disables ordinary
-- triggers.

CREATE OR REPLACE FUNCTION indelible.reject_modification()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '% of %.% is not allowed: what is stored is immutable',
        tg_op, tg_table_schema, tg_table_name
    USING ERRCODE = 'IND01',
        HINT = 'Events are immutable. Append an event that corrects the earlier one.';
END
$$;
COMMENT ON FUNCTION indelible.reject_modification() IS
    'Raises IND01: the trigger that keeps stored events as they are.';

-- A change is allowed only if the same transaction has recorded it, so that no change is without a
-- record. Not by the transaction id alone: a restored store repeats ids, but not at the same
-- microsecond.
CREATE OR REPLACE FUNCTION indelible.is_recorded_change(stream_id bigint, operation text)
RETURNS boolean
LANGUAGE sql
STABLE
AS $$
    SELECT EXISTS (
        SELECT FROM indelible.stream_changes
        WHERE transaction_id = pg_current_xact_id()
            AND noted_at = now()
            AND (is_recorded_change.stream_id IS NULL OR stream_id = is_recorded_change.stream_id)
            AND operation = is_recorded_change.operation
    )
$$;
COMMENT ON FUNCTION indelible.is_recorded_change(bigint, text) IS
    'Whether this transaction has recorded that it does this to a stream, or (null) to any.';

CREATE OR REPLACE FUNCTION indelible.reject_unrecorded_modification()
RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    kept constant text[] := ARRAY['data', 'metadata', 'erasure'];
    operation constant text := CASE tg_op
        WHEN 'UPDATE' THEN 'erase' WHEN 'DELETE' THEN 'archive' WHEN 'INSERT' THEN 'archive'
    END;
    stream bigint;
BEGIN
    IF tg_level = 'ROW' THEN
        stream := coalesce(old.stream_id, new.stream_id);
    END IF;
    IF operation IS NOT NULL AND indelible.is_recorded_change(stream, operation) THEN
        IF tg_level = 'STATEMENT' THEN
            IF tg_op = 'DELETE' THEN
                -- Before the first event is deleted: from now on appends look for their ids in the archive.
                PERFORM nextval('indelible.archive_count');
            END IF;
            RETURN NULL;
        ELSIF tg_op = 'UPDATE' THEN
            -- Only the data is deleted; the event keeps its position and all other columns.
            IF new.data = 'null' AND new.metadata IS NULL AND new.erasure IS NOT NULL
                AND to_jsonb(new) - kept = to_jsonb(old) - kept
            THEN
                RETURN new;
            END IF;
        ELSIF tg_op = 'DELETE' AND tg_table_name = 'events' THEN
            -- This is the only way into the archive. All columns, also those that later migrations
            -- add to both tables.
            INSERT INTO indelible.archived_events SELECT old.*;
            RETURN old;
        ELSIF tg_op = 'INSERT' AND pg_trigger_depth() > 1 AND EXISTS (
            SELECT
            FROM indelible.events
            JOIN indelible.streams ON streams.id = events.stream_id
            WHERE events.position = new.position
                AND events.id = new.id
                -- Without it readers of the stream would not look into the archive.
                AND streams.archived_at IS NOT NULL
        ) THEN
            RETURN new;
        END IF;
    END IF;
    RAISE EXCEPTION '% of %.% is not allowed: what is stored is immutable',
        tg_op, tg_table_schema, tg_table_name
    USING ERRCODE = 'IND01',
        HINT = 'Events are immutable. Append an event that corrects the earlier one.';
END
$$;
COMMENT ON FUNCTION indelible.reject_unrecorded_modification() IS
    'Raises IND01 unless archive_stream() or erase_stream() has recorded the change.';

CREATE OR REPLACE TRIGGER events_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.events
FOR EACH STATEMENT EXECUTE FUNCTION indelible.reject_unrecorded_modification();
ALTER TABLE indelible.events ENABLE ALWAYS TRIGGER events_are_immutable;

CREATE OR REPLACE TRIGGER events_change_as_recorded
BEFORE UPDATE OR DELETE ON indelible.events
FOR EACH ROW EXECUTE FUNCTION indelible.reject_unrecorded_modification();
ALTER TABLE indelible.events ENABLE ALWAYS TRIGGER events_change_as_recorded;

CREATE OR REPLACE TRIGGER archived_events_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.archived_events
FOR EACH STATEMENT EXECUTE FUNCTION indelible.reject_unrecorded_modification();
ALTER TABLE indelible.archived_events ENABLE ALWAYS TRIGGER archived_events_are_immutable;

CREATE OR REPLACE TRIGGER archived_events_change_as_recorded
BEFORE UPDATE OR DELETE ON indelible.archived_events
FOR EACH ROW EXECUTE FUNCTION indelible.reject_unrecorded_modification();
ALTER TABLE indelible.archived_events ENABLE ALWAYS TRIGGER archived_events_change_as_recorded;

-- Not ALWAYS: logical replication copies an archive.
CREATE OR REPLACE TRIGGER archived_events_come_from_events
BEFORE INSERT ON indelible.archived_events
FOR EACH ROW EXECUTE FUNCTION indelible.reject_unrecorded_modification();

CREATE OR REPLACE TRIGGER event_tags_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.event_tags
FOR EACH STATEMENT EXECUTE FUNCTION indelible.reject_modification();
ALTER TABLE indelible.event_tags ENABLE ALWAYS TRIGGER event_tags_are_immutable;

CREATE OR REPLACE TRIGGER stream_changes_are_immutable
BEFORE UPDATE OR DELETE OR TRUNCATE ON indelible.stream_changes
FOR EACH STATEMENT EXECUTE FUNCTION indelible.reject_modification();
ALTER TABLE indelible.stream_changes ENABLE ALWAYS TRIGGER stream_changes_are_immutable;

CREATE OR REPLACE TRIGGER streams_are_kept
BEFORE UPDATE OF id, name, channel OR TRUNCATE ON indelible.streams
FOR EACH STATEMENT EXECUTE FUNCTION indelible.reject_modification();
ALTER TABLE indelible.streams ENABLE ALWAYS TRIGGER streams_are_kept;

-- A row at version -1 never had an event: it is a lock that append_many takes back.
CREATE OR REPLACE TRIGGER written_streams_are_kept
BEFORE DELETE ON indelible.streams
FOR EACH ROW WHEN (old.version >= 0) EXECUTE FUNCTION indelible.reject_modification();
ALTER TABLE indelible.streams ENABLE ALWAYS TRIGGER written_streams_are_kept;

-- AFTER: a BEFORE trigger of each row would lock the row again in every append, with a WAL record.
CREATE OR REPLACE TRIGGER archived_streams_stay_known
AFTER UPDATE OF archived_at ON indelible.streams
FOR EACH ROW WHEN (old.archived_at IS NOT NULL AND new.archived_at IS NULL)
EXECUTE FUNCTION indelible.reject_modification();
ALTER TABLE indelible.streams ENABLE ALWAYS TRIGGER archived_streams_stay_known;
