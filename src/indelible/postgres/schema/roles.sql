-- Makes the roles of a store, which log in through others: GRANT … TO your_login_role.
DO $do$
DECLARE
    reader constant text := current_schema || '_reader';
    writer constant text := current_schema || '_writer';
    maintainer constant text := current_schema || '_maintainer';
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[reader, writer, maintainer] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA indelible TO %I', reader);
    EXECUTE format('GRANT %I TO %I', reader, writer);
    EXECUTE format('GRANT %I TO %I', writer, maintainer);
    EXECUTE format(
        'GRANT SELECT ON indelible.recorded_events, indelible.recorded_streams,'
        ' indelible.recorded_unarchived, indelible.recorded_archived,'
        ' indelible.event_tags, indelible.groups,'
        ' indelible.group_workers, indelible.group_slices, indelible.group_events,'
        ' indelible.projections, indelible.projection_partitions,'
        ' indelible.projection_parked, indelible.projection_documents, indelible.documents,'
        ' indelible.periods, indelible.stream_changes TO %I',
        reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.head(), indelible.read_matching(jsonb), indelible.head_holders(),'
        ' indelible.lock_holders(), indelible.size(), indelible.epoch(), indelible.head_state(),'
        ' indelible.may_read, indelible.check_checkpoint, indelible.note_settled,'
        ' indelible.last_migration(), indelible.last_function_set(), indelible.store_problem, indelible.group_checkpoint,'
        ' indelible.group_firsts, indelible.projection_served, indelible.documents_read,'
        ' indelible.documents_all,'
        ' indelible.documents_find,'
        ' indelible.group_places, indelible.group_overdue,'
        ' indelible.partition_key, indelible.slice_of, indelible.known_periods,'
        ' indelible.learn_periods, indelible.position_at, indelible.version_at,'
        ' indelible.load, indelible.load_valid TO %I',
        reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.append(text, text, bigint, jsonb), indelible.append_many(jsonb),'
        ' indelible.append_batch(jsonb), indelible.append_if(jsonb, jsonb),'
        ' indelible.wait_at_commit(),'
        ' indelible.group_create, indelible.group_change, indelible.group_delete,'
        ' indelible.group_reset, indelible.group_join, indelible.group_beat,'
        ' indelible.group_renew_lease,'
        ' indelible.group_deal, indelible.group_leave, indelible.group_attempt,'
        ' indelible.group_note, indelible.group_queue, indelible.group_finish,'
        ' indelible.group_replay, indelible.group_discard, indelible.close_stream,'
        ' indelible.reopen_stream, indelible.take_snapshot,'
        ' indelible.projection_register, indelible.projection_lease,'
        ' indelible.projection_beat, indelible.projection_release, indelible.projection_fence,'
        ' indelible.projection_renew_lease,'
        ' indelible.projection_advance, indelible.projection_commit, indelible.projection_hold,'
        ' indelible.projection_take, indelible.projection_put TO %I',
        writer
    );
    EXECUTE format('GRANT SELECT ON indelible.projection_workers TO %I', reader);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION'
        ' indelible.projection_worker_beat, indelible.projection_worker_leave,'
        ' indelible.projection_worker_renew_lease,'
        ' indelible.projection_fail, indelible.projection_park, indelible.projection_restart,'
        ' indelible.projection_discard, indelible.projection_rebuild, indelible.projection_seize,'
        ' indelible.projection_key, indelible.projection_try_lock,'
        ' indelible.projection_serve, indelible.projection_sweep TO %I',
        writer
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.projection_retire TO %I',
        maintainer
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.archive_stream, indelible.erase_stream TO %I',
        maintainer
    );
END
$do$
