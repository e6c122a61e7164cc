"""The tests of the contract that do not run over HTTP, with the reasons."""

from __future__ import annotations

EXCLUDED_MODULES = {
    "access/test_tokens": "tokens are administered in the database",
    "admin/test_activity": "it looks at the whole log in the database, for the page",
    "admin/test_correlation": "it looks at the whole log in the database, for the page",
    "aggregates/test_snapshots": "snapshots are in the database; states are loaded without them",
    "app/test_app": "an application runs projections",
    "bulk_import/test_import": "imports use COPY",
    "postgres/test_connection": "it tests connections to the database",
    "postgres/test_control_connection": "it tests connections to the database",
    "postgres/test_direct": "it tests connections to the database",
    "postgres/test_ended_transactions": "transactions are shared in the database",
    "postgres/test_sessions": "it tests connections to the database",
    "projections/test_daemon": "projections run in the database",
    "projections/test_model": "projections run in the database",
    "projections/test_projections": "projections run in the database",
    "projections/test_rebuild": "projections run in the database",
    "streams/test_look_up": "events are looked up by id in the database",
}
"""Modules of `tests/contract`, and why none of their tests runs."""

_SQL = "it needs transactions with SQL"
_IMPORTS = "it imports events, which uses COPY"
_PROJECTIONS = "it runs projections"
_EPOCH = "it begins an epoch, which the owner of the database does"
_INSIDE = "it looks inside of a subscription that reads the database"
_WORKER = "the worker of the group is the server"

EXCLUDED: dict[str, dict[str, str]] = {
    "test_admin_event_types": {
        "test_a_handler_must_return_a_document": _PROJECTIONS,
        "test_a_projection_of_a_name_that_no_class_has_is_refused": _PROJECTIONS,
        "test_plain_data_that_its_class_cannot_read_is_refused": _IMPORTS,
        "test_tags_do_not_depend_on_how_data_is_given": _IMPORTS,
        "test_what_cannot_be_read_is_told_with_its_place_and_reason": "check_types scans the log",
    },
    "test_aggregates_aggregates": {
        "test_aggregates_are_written_in_the_transaction_of_other_appends": _SQL,
        "test_in_a_transaction_it_decides_anew_too": _SQL,
    },
    "test_consumer_groups_groups": {
        "test_a_handler_waits_for_a_connection_as_long_as_others_do": _SQL,
        "test_a_worker_gathers_outcomes_only_while_enough_events_are_ready": _WORKER,
        "test_in_a_transaction_the_work_and_the_ack_are_one": _SQL,
        "test_what_is_said_inside_a_transaction_undoes_it": _SQL,
        "test_work_under_a_lease_that_is_over_is_undone": _SQL,
        "test_workers_are_told": _WORKER,
    },
    "test_consumer_groups_valid_time": {
        "test_what_is_late_comes_at_once_and_what_is_ahead_when_its_time_comes": _WORKER,
    },
    "test_dcb_conditions": {"test_a_refusal_inside_a_transaction_leaves_it_usable": _SQL},
    "test_dcb_decide": {
        "test_a_decision_in_a_transaction_ends_with_it": _SQL,
        "test_an_append_of_the_transactions_own_is_in_the_way_too": _SQL,
        "test_inside_a_transaction_a_function_decides_anew_too": _SQL,
        "test_the_states_of_models_are_read_without_a_decision": _SQL,
    },
    "test_serialization_upcasting": {
        "test_a_group_handles_the_parts_of_an_event_in_order_and_finishes_it_with_the_last": _SQL,
        "test_a_group_that_asks_for_a_type_gets_what_was_stored_under_old_names": _SQL,
        "test_a_part_that_committed_by_itself_does_not_finish_the_event": _SQL,
        "test_what_was_seen_is_not_in_the_way_though_nothing_of_it_is_left": _SQL,
    },
    "test_streams_epochs": {
        "test_a_running_subscription_that_is_behind_what_was_lost_continues": (
            "the server has sent what was lost, so the client is not behind it"
        ),
        "test_an_operator_begins_an_epoch_that_vouches_for_nothing": _EPOCH,
        "test_the_worker_of_a_group_joins_again_and_begins_from_the_rows": _SQL,
    },
    "test_streams_events": {"test_minus_zero_is_refused": _IMPORTS},
    "test_streams_input": {"test_names_of_the_store_itself": _IMPORTS},
    "test_streams_lifecycle": {
        "test_a_stream_is_closed_at_the_version_that_is_expected": _SQL,
        "test_a_transaction_has_nothing_that_outlives_it": _SQL,
        "test_every_expected_version_means_the_same_in_every_state": _SQL,
        "test_the_ids_of_archived_events_are_known_to_every_append": _SQL,
        "test_what_is_appended_and_closed_in_one_transaction_is_archived_whole": _SQL,
    },
    "test_streams_metadata": {"test_every_append_has_the_metadata_of_the_store": _SQL},
    "test_streams_read_log": {
        "test_positions_that_were_rolled_back_hold_nobody_back": _SQL,
        "test_reading_may_begin_on_a_gap": _SQL,
    },
    "test_streams_time": {"test_a_checkpoint_stands_for_a_moment_of_its_history": _EPOCH},
    "test_subscriptions_subscribe": {
        "test_a_filter_that_matches_nothing_moves_the_checkpoint_on_in_bounded_steps": (
            "the server tells of positions without a match once a second"
        ),
        "test_a_notification_wakes_a_reader_that_polls_seldom": _SQL,
        "test_events_that_are_read_while_it_is_stopped_are_not_passed": _INSIDE,
        "test_it_reads_on_only_as_events_are_taken": _INSIDE,
        "test_new_events_come_with_the_look_at_the_head": _SQL,
        "test_who_holds_the_head_is_named": "head_info looks at sessions of the database",
    },
    "test_subscriptions_valid_time": {
        "test_a_checkpoint_of_another_kind_or_history_is_refused": _EPOCH,
    },
}
"""Tests by module of this folder, and why they do not run."""
