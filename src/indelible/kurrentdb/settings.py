"""The settings of a server for KurrentDB's clients."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from indelible.errors import InvalidInput

DEFAULT_PORT = 2113
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]/]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class KurrentSettings:
    """The settings of a server for KurrentDB's clients.

    Attributes:
        host: the address to listen on. Without TLS and users it must be one of this machine.
        port: the port to listen on; 0 for any that is free.
        advertise: the address, `host:port`, at which clients reach the server. It is the answer to
            the gossip of clients that discover a cluster. None: `localhost` and the port.
        url: the database, as for `connect`.
        schema: the schema of the store, as for `connect`.
        pool_size: the connections to the database.
        timeout: seconds that a request may wait for the database.
        max_event_bytes: the largest event: its data, its metadata and twice its type.
        max_append_bytes: the largest append.
        max_message_bytes: the largest message on the wire.
        max_calls: the calls that a connection may have open, which includes subscriptions.
        max_appends: the appends of one batch call that may be under way.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    advertise: str | None = None
    url: str | None = None
    schema: str | None = None
    pool_size: int = 10
    timeout: float = 10.0
    max_event_bytes: int = 16 * 1024 * 1024
    max_append_bytes: int = 256 * 1024 * 1024
    max_message_bytes: int = 20 * 1024 * 1024
    max_calls: int = 10_000
    max_appends: int = 512

    def __post_init__(self) -> None:
        if not self.is_local:
            raise InvalidInput(
                f"--insecure is for addresses of this machine only: {self.host} can be reached from"
                " others, which then could read and write everything"
            )
        if self.advertise is not None:
            found = _ADDRESS.fullmatch(self.advertise)
            if found is None or not 0 < int(found["port"]) < 2**16:
                raise InvalidInput(
                    f"--advertise must be a host and a port (db.example.com:2113), not"
                    f" {self.advertise!r}"
                )

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def address(self, port: int) -> str:
        """Return the connection string for clients, with the port that the server listens on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"kurrentdb://{host}:{port}?tls=false"

    def advertised(self, port: int) -> tuple[str, int]:
        """Return the host and the port that the server names in its gossip."""
        if self.advertise is None:
            return "localhost" if self.host == "127.0.0.1" else self.host, port
        host, _, advertised_port = self.advertise.rpartition(":")
        return host.strip("[]"), int(advertised_port)
