"""Values: principals, and the rights that they have by verb, channel and stream prefix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from indelible.errors import InvalidInput
from indelible.query import Query, QueryItem, of_items


class Verb(StrEnum):
    """What a right allows.

    Attributes:
        READ: read streams and the log, and subscribe.
        APPEND: append to streams.
        CONSUME: take events from consumer groups, and acknowledge them.
        MANAGE: close, reopen, archive and erase streams; administer groups and projections.
    """

    READ = "read"
    APPEND = "append"
    CONSUME = "consume"
    MANAGE = "manage"


def verbs_of(names: str | Iterable[str]) -> frozenset[Verb]:
    """Read the names of verbs.

    Args:
        names: the names, or one text with commas in between.

    Raises:
        InvalidInput: a name is not that of a verb, or there is none.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    found = {name.strip() for name in given if name.strip()}
    if unknown := sorted(found - set(Verb)):
        raise InvalidInput(f"can must be some of {', '.join(Verb)}, not {unknown[0]!r}")
    if not found:
        raise InvalidInput(f"can must name at least one of {', '.join(Verb)}")
    return frozenset(map(Verb, found))


@dataclass(frozen=True, slots=True)
class Grant:
    """A right: some verbs on the streams of a channel, or on those with a prefix.

    Attributes:
        verbs: what it allows.
        channel: only streams of this channel; None for all.
        stream_prefix: only streams whose name starts with this text; None for all.
    """

    verbs: frozenset[Verb]
    channel: str | None = None
    stream_prefix: str | None = None

    def allows(self, stream: str, channel: str) -> bool:
        """Return whether a stream of a channel is among those of the grant."""
        return (self.channel is None or channel == self.channel) and (
            self.stream_prefix is None or stream.startswith(self.stream_prefix)
        )

    def narrowed(self, item: QueryItem) -> QueryItem | None:
        """Return what an item of a query may match under this grant; None for nothing."""
        channel, prefix = item.channel, item.stream_prefix
        if self.channel is not None:
            if channel not in (None, self.channel):
                return None
            channel = self.channel
        if self.stream_prefix is not None:
            if item.stream is not None and not item.stream.startswith(self.stream_prefix):
                return None
            shorter, longer = sorted((prefix or "", self.stream_prefix), key=len)
            if not longer.startswith(shorter):
                return None
            prefix = longer
        return replace(item, channel=channel, stream_prefix=prefix)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what they may do.

    Attributes:
        name: how the audit log calls them: `token 3f9k2m (delivery)`.
        grants: their rights.
        token_id: the id of their token; None without one.
        session: the hash of the session in which they use it; None without one.
    """

    name: str
    grants: Sequence[Grant]
    token_id: str | None = None
    session: str | None = None

    def may(self, verb: Verb, stream: str, channel: str) -> bool:
        """Return whether they may do something with a stream.

        Args:
            verb: what they want to do.
            stream: the name of the stream.
            channel: the channel of the stream.
        """
        return any(grant.allows(stream, channel) for grant in self._grants(verb))

    def may_everywhere(self, verb: Verb) -> bool:
        """Return whether they may do something with all streams."""
        return any(
            grant.channel is None and grant.stream_prefix is None for grant in self._grants(verb)
        )

    @property
    def may_everything(self) -> bool:
        """Whether they may do everything with all streams, and so can give no right they lack."""
        return all(map(self.may_everywhere, Verb))

    def channels(self, verb: Verb, stream: str) -> frozenset[str] | None:
        """Return the channels in which they may do something with a stream of that name.

        Returns:
            The channels, none of them if the name is not allowed; None for all channels.
        """
        grants = [
            grant for grant in self._grants(verb) if stream.startswith(grant.stream_prefix or "")
        ]
        if any(grant.channel is None for grant in grants):
            return None
        return frozenset(grant.channel for grant in grants if grant.channel is not None)

    def narrow(self, verb: Verb, query: Query) -> Query | None:
        """Narrow a query to the streams with which they may do something.

        The result is what the database is asked for. So nothing else leaves it.

        Returns:
            The narrower query; None if it could match nothing.
        """
        items = [
            narrowed
            for item in query.items
            for grant in self._grants(verb)
            if (narrowed := grant.narrowed(item)) is not None
        ]
        return of_items(items) if items else None

    def covers(self, verb: Verb, query: Query) -> bool:
        """Return whether they may do something with all that a query can match."""
        return all(
            any(grant.narrowed(item) == item for grant in self._grants(verb))
            for item in query.items
        )

    def _grants(self, verb: Verb) -> Iterable[Grant]:
        return (grant for grant in self.grants if verb in grant.verbs)


def everything(name: str) -> Principal:
    """Return a principal that may do everything."""
    return Principal(name, (Grant(frozenset(Verb)),))
