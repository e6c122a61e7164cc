"""The system events that clients expect at the beginning of the log."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

import msgspec

from indelible import AsyncEventStore, NewEvent
from indelible.errors import AppendRejected
from indelible.events import NO_STREAM, StreamAppend

_EVENTS = [
    # The default rights: all may read and write what is not of the system.
    (
        "$settings",
        "$settings",
        {
            "$userStreamAcl": dict.fromkeys(("$r", "$w", "$d", "$mr", "$mw"), "$all"),
            "$systemStreamAcl": dict.fromkeys(("$r", "$w", "$d", "$mr", "$mw"), "$admins"),
        },
    ),
    # Who may read the streams of the system.
    ("$$$settings", "$metadata", {"$acl": {"$r": "$admins", "$w": "$admins"}}),
    ("$$$streams", "$metadata", {"$acl": {"$r": "$admins"}}),
    ("$$$users", "$metadata", {"$acl": {"$r": "$admins", "$w": "$admins"}}),
]


async def write_system_events(store: AsyncEventStore) -> None:
    """Write the system events into an empty store. Of two servers, one does."""
    if await store.head() > 0 or await _has_events(store):
        return
    appends = [
        StreamAppend(
            stream,
            NewEvent(
                event_type,
                msgspec.Raw(msgspec.json.encode(data)),
                id=uuid5(NAMESPACE_URL, f"indelible:{stream}"),
            ),
            expected=NO_STREAM,
            channel="$system",
        )
        for stream, event_type, data in _EVENTS
    ]
    try:
        await store.append_many(appends)
    except AppendRejected:
        return  # another server was first


async def _has_events(store: AsyncEventStore) -> bool:
    return (await store.head_info()).last_position > 0
