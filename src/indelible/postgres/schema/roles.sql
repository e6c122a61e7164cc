-- Creates the roles of a store. They cannot log in; grant them to a login role: GRANT … TO
-- your_login_role.
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
        ' indelible.recorded_unarchived, indelible.recorded_archived, indelible.event_tags,'
        ' indelible.groups, indelible.group_workers, indelible.group_slices,'
        ' indelible.group_events, indelible.group_leases, indelible.projections,'
        ' indelible.projection_partitions,'
        ' indelible.projection_parked, indelible.projection_documents, indelible.documents,'
        ' indelible.recorded_time_index, indelible.log_windows,'
        ' indelible.log_window_contents, indelible.stream_changes TO %I',
        reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.head(), indelible.read_matching(jsonb),'
        ' indelible.matching_items, indelible.head_holders(), indelible.lock_holders(),'
        ' indelible.size(), indelible.epoch(), indelible.head_state(),'
        ' indelible.events_since, indelible.check_reader_epoch, indelible.check_checkpoint,'
        ' indelible.record_settled_position, indelible.last_migration(),'
        ' indelible.last_function_set(), indelible.store_problem, indelible.group_checkpoint,'
        ' indelible.group_first_pending, indelible.projection_serving_build,'
        ' indelible.documents_get, indelible.documents_list, indelible.documents_find,'
        ' indelible.group_slice_progress, indelible.group_overdue_events,'
        ' indelible.partition_key, indelible.slice_of, indelible.indexed_up_to,'
        ' indelible.index_recorded_times, indelible.position_at, indelible.version_at,'
        ' indelible.write_log_windows, indelible.matching_windows, indelible.load,'
        ' indelible.load_by_valid_time TO %I',
        reader
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.append(text, text, bigint, jsonb),'
        ' indelible.append_many(jsonb), indelible.append_batch(jsonb),'
        ' indelible.append_conditional(jsonb, jsonb), indelible.wait_at_commit(),'
        ' indelible.group_create, indelible.group_update, indelible.group_delete,'
        ' indelible.group_reset, indelible.group_join, indelible.group_heartbeat,'
        ' indelible.group_renew_lease, indelible.group_fetch, indelible.group_rebalance,'
        ' indelible.group_leave, indelible.group_lend, indelible.group_settle_lease,'
        ' indelible.group_extend_lease, indelible.group_end_leases,'
        ' indelible.group_record_attempt, indelible.group_record_failure,'
        ' indelible.group_enqueue, indelible.group_ack, indelible.group_replay,'
        ' indelible.group_discard, indelible.close_stream, indelible.reopen_stream,'
        ' indelible.save_snapshot, indelible.projection_register,'
        ' indelible.projection_register_tables, indelible.projection_acquire,'
        ' indelible.projection_heartbeat, indelible.projection_release,'
        ' indelible.projection_fence, indelible.projection_renew_lease,'
        ' indelible.projection_advance, indelible.projection_commit,'
        ' indelible.projection_lock_build, indelible.projection_lock_documents,'
        ' indelible.projection_write_documents TO %I',
        writer
    );
    EXECUTE format('GRANT SELECT ON indelible.projection_workers TO %I', reader);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.projection_worker_heartbeat,'
        ' indelible.projection_worker_leave, indelible.projection_worker_renew_lease,'
        ' indelible.projection_record_failure, indelible.projection_park,'
        ' indelible.projection_restart, indelible.projection_discard,'
        ' indelible.projection_start_rebuild, indelible.projection_force_lease,'
        ' indelible.projection_lock_key, indelible.projection_try_lock,'
        ' indelible.projection_cut_over, indelible.projection_drop_retired TO %I',
        writer
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.projection_retire TO %I',
        maintainer
    );
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.archive_stream, indelible.erase_stream,'
        ' indelible.create_token, indelible.list_tokens, indelible.revoke_token TO %I',
        maintainer
    );
    -- A server checks the tokens of those who ask it.
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION indelible.find_token, indelible.note_token_use,'
        ' indelible.create_session, indelible.find_session, indelible.redeem_ticket,'
        ' indelible.end_session, indelible.valid_access TO %I',
        writer
    );
END
$do$
