"""What must hold on every server: the rows of the README's matrix, and the tests of each.

A row reads "behind the middleware this holds". Its tests run on every variant of every server.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

__all__ = ["ROWS", "row_of"]

ROWS: dict[str, tuple[str, ...]] = {
    "Echo, empty to 1 MiB, text and binary": (
        "test_echo.py::test_messages_of_every_size_come_back",
        "test_echo.py::test_every_kind_of_bytes_arrives",
        "test_echo.py::test_text_of_every_plane_comes_back",
        "test_echo.py::test_fragments_arrive_as_one_message",
        "test_echo.py::test_many_messages_keep_their_order",
    ),
    "Subprotocol and headers of accept": (
        "test_echo.py::test_headers_of_accept_reach_the_peer",
        "test_echo.py::test_a_subprotocol_is_selected",
        "test_echo.py::test_no_subprotocol_is_invented",
    ),
    "Handler returns: 1000": (
        "test_closing.py::test_a_handler_that_returns_closes_with_1000",
        "test_closing.py::test_messages_sent_before_the_close_arrive_before_it",
        "test_closing.py::test_a_handler_that_returns_before_accept_refuses_the_handshake",
    ),
    "Handler raises: 1011": ("test_closing.py::test_a_handler_that_raises_closes_with_1011",),
    "Handler raises before accept: 500": ("test_closing.py::test_a_handler_that_raises_before_accept_answers_500",),
    "Handler closes: code and reason arrive, made legal": (
        "test_closing.py::test_a_close_of_the_handler_passes_unchanged",
        "test_closing.py::test_a_code_that_may_not_be_sent_is_replaced",
        "test_closing.py::test_a_reason_that_is_too_long_is_cut",
        "test_closing.py::test_a_close_from_outside_ends_the_handler",
    ),
    "Client closes with 1000, with 4001 and a reason: the handler learns both": (
        "test_closing.py::test_the_handler_sees_code_and_reason_of_the_peer",
        "test_closing.py::test_a_peer_may_close_without_a_code",
        "test_closing.py::test_iterating_ends_when_the_peer_closes",
    ),
    "Client vanishes by FIN or RST": ("test_disconnects.py::test_a_receiving_handler_learns_of_a_lost_peer_at_once",),
    "Client vanishes by silence": (
        "test_heartbeat.py::test_a_half_open_peer_is_gone",
        "test_heartbeat.py::test_a_stopped_client_is_gone",
        "test_heartbeat.py::test_an_unanswered_message_heartbeat_ends_the_connection",
        "test_heartbeat.py::test_a_peer_that_never_answers_is_gone",
    ),
    "Push-only handler keeps a healthy client with 0, 1, 40 unread messages": (
        "test_heartbeat.py::test_a_push_only_handler_keeps_a_healthy_peer",
        "test_echo.py::test_pings_of_the_peer_are_answered",
    ),
    "Push-only handler learns of a vanished client within a second": (
        "test_disconnects.py::test_a_push_only_handler_learns_of_a_lost_peer_within_a_second",
        "test_disconnects.py::test_a_deaf_handler_does_not_keep_a_lost_peer_registered",
    ),
    "A client that has left is noticed whatever its handler does: receives, pauses, is delayed, never reads, closes": (
        "test_ghosts.py::*",
    ),
    "Frames in one packet with the handshake arrive": (
        "test_doorstep.py::test_frames_behind_the_handshake_arrive_in_order",
    ),
    "Frames before accept arrive; a client that leaves before accept leaves nothing": (
        "test_doorstep.py::test_frames_before_accept_arrive_in_order",
        "test_doorstep.py::test_large_messages_before_accept_arrive",
        "test_doorstep.py::test_data_behind_the_handshake_harms_nobody_and_leaves_nothing",
        "test_doorstep.py::test_a_peer_that_leaves_before_accept_leaves_nothing",
    ),
    "Stalled client dropped, its TCP connection freed": (
        "test_backpressure.py::test_a_peer_that_takes_nothing_for_too_long_is_cut_off",
        "test_backpressure.py::test_cutting_a_peer_off_ends_its_tcp_connection",
        "test_backpressure.py::test_one_stalled_reader_harms_nobody",
    ),
    "Ten tasks send at once": ("test_concurrency.py::test_ten_tasks_send_at_once",),
    "Close while a receive is pending": ("test_concurrency.py::test_a_close_gets_past_a_pending_receive",),
    "Close while a send is blocked": ("test_concurrency.py::test_a_close_*_a_blocked_send",),
    "Send after the client has gone raises an OSError": (
        "test_disconnects.py::test_sending_to_a_peer_that_left_raises_an_oserror",
        "test_disconnects.py::test_a_handler_that_only_sends_gets_the_error_of_its_framework",
        "test_disconnects.py::test_a_handler_that_floods_stops_when_its_peer_is_gone",
    ),
    "The disconnect is received once, behind all messages": (
        "test_disconnects.py::test_the_disconnect_is_received_exactly_once",
        "test_disconnects.py::test_messages_that_came_before_the_end_are_still_received",
    ),
    "Receive with a timeout loses nothing": ("test_echo.py::test_a_cancelled_receive_loses_nothing",),
    "Message over the limit: 1009": (
        "test_limits.py::test_a_larger_message_closes_with_1009",
        "test_limits.py::test_fragments_that_are_too_large_together_close_with_1009",
        "test_limits.py::test_a_larger_message_closes_with_1009_even_if_nobody_reads_it",
    ),
    "Decompression bomb: 1009, memory bounded": ("test_bomb.py::*",),
    "Compression can be off": ("test_compression.py::test_compression_can_be_off",),
    "Refusals by limit, origin, authorize: status, body, Retry-After": (
        "test_limits.py::test_a_refusal_is_plain_text",
        "test_limits.py::test_connections_of_an_address_are_limited",
        "test_origin.py::test_by_default_only_the_same_host_is_allowed",
        "test_authorize.py::test_false_refuses_the_handshake",
        "test_authorize.py::test_a_returned_close_sets_status_and_body_of_the_refusal",
    ),
    "Unfinished messages count as memory, and their time is limited": ("test_unfinished.py::*",),
    "No spelling of a path leads past its guard": ("test_paths.py::*",),
    "A place is free when its socket and its handler are gone": ("test_places.py::*",),
    "500 handshakes at once on 100 places: exactly 100 succeed": (
        "test_limits.py::test_simultaneous_handshakes_fill_the_limit_exactly",
    ),
    "Heartbeat by message": ("test_heartbeat.py::test_a_heartbeat_may_be_a_message",),
    "Heartbeat by ping, latency measured": ("test_heartbeat.py::test_the_latency_is_measured",),
    "Ten seconds of a blocked loop kill nobody": ("test_stall.py::*",),
    "One order of broadcasts for everybody": (
        "test_broadcast.py::test_everybody_hears_the_same_order",
        "test_broadcast.py::test_a_broadcast_keeps_its_place_among_direct_sends",
    ),
    "50 clients drained on SIGTERM, beside 2 stalled and 2 deaf ones": (
        "test_drain.py::test_a_service_with_all_kinds_of_clients_stops_in_time",
    ),
    "The same with the signal sent to the whole group": (
        "test_drain.py::test_a_signal_to_the_whole_process_group_drains_too",
    ),
    "Hooks that misbehave hold up nobody": ("test_hooks.py::*",),
    "Errors are logged, and end only the connections that they concern": ("test_errors.py::*",),
    "Context variables of outer middleware are visible": ("test_context.py::*",),
    "200 connections that die in every way leave nothing": ("test_faults.py::*",),
    "A thousand connections leave nothing": ("test_churn.py::test_a_thousand_connections_leave_no_trace",),
    "HTTP beside it": ("test_mounting.py::test_http_requests_find_the_manager_and_pass",),
    "TLS": ("test_tls.py::*",),
    "python-socketio, with its own client": ("test_socketio.py::*",),
    "graphql-transport-ws (strawberry), with the client of gql": ("test_graphql.py::*",),
}
"""Title and tests of each row, as ``file.py::test_name`` with shell wildcards."""


def row_of(name: str) -> str | None:
    """The title of the row that a test belongs to; ``None`` for a test that belongs to none."""
    return next((title for title, patterns in ROWS.items() if any(fnmatchcase(name, each) for each in patterns)), None)
