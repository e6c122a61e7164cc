"""The settings of a server."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from indelible.errors import InvalidInput

DEFAULT_PORT = 7373
DEFAULT_RATE = 1_000
_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[^\s:\[\]@/?#*]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of a server.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 for any that is free.
        url: the database, as for `connect`.
        schema: the schema of the store, as for `connect`.
        requires_token: whether each request needs a token. None: unless only programs of this
            machine can reach the server, and not through a proxy.
        allowed_hosts: further names under which browsers may reach the server.
        allowed_origins: the origins of other sites whose pages may use the server.
        tls_cert: the file with the certificate, in PEM format; None for plain HTTP.
        tls_key: the file with its key.
        workers: the processes that serve.
        rate: the requests per second of a principal, or of an address without one, in each worker;
            0 for no limit. None: 1,000, unless only programs of this machine can reach the server.
        max_connections: the connections of each worker.
        max_streams: the event streams of a principal in each worker.
        trusted_proxies: addresses or networks of reverse proxies. Only these may name the client in
            `X-Forwarded-For`, and its scheme in `X-Forwarded-Proto`.
        max_body_bytes: the largest body of a request, in bytes.
        head_timeout: seconds that the request line and the headers may take to arrive.
        body_timeout: seconds that a body may take to arrive.
        send_timeout: seconds after which a client that reads nothing is cut off.
        heartbeat: seconds after which a subscription without events sends a comment.
        pool_size: the connections to the database of each worker.
        timeout: seconds that a request may wait for the database.
        app: the module, or application, whose deciders fold the states that the page shows:
            `shop` or `shop:app`. Each worker imports it.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    url: str | None = None
    schema: str | None = None
    requires_token: bool | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    workers: int = 1
    rate: int | None = None
    max_connections: int = 1_000
    max_streams: int = 800
    trusted_proxies: tuple[str, ...] = ()
    max_body_bytes: int = 16 * 1024 * 1024
    head_timeout: float = 10.0
    body_timeout: float = 60.0
    send_timeout: float = 60.0
    heartbeat: float = 15.0
    pool_size: int = 10
    timeout: float = 10.0
    app: str | None = None

    def __post_init__(self) -> None:
        if self.requires_token is False and not self.is_local:
            raise InvalidInput(
                f"--no-auth is for addresses of this machine only: {self.host} can be reached from"
                " others, which then could read and write everything"
            )
        if self.requires_token is False and self.trusted_proxies:
            raise InvalidInput(
                "--no-auth and --trusted-proxy exclude each other: what comes through a proxy"
                " needs a token"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidInput("--tls-cert and --tls-key belong together: pass both")
        for origin in self.allowed_origins:
            if not _ORIGIN.fullmatch(origin):
                raise InvalidInput(
                    "--allowed-origin must be an origin as browsers write it"
                    f" (https://shop.example.com), not {origin!r}"
                )
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise InvalidInput(
                    f"--trusted-proxy must be an address or a network (10.0.0.0/8), not {proxy!r}"
                ) from None

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_guarded(self) -> bool:
        """Whether each request needs a token."""
        if self.requires_token is None:
            return not self.is_local or bool(self.trusted_proxies)
        return self.requires_token

    @property
    def requests_per_second(self) -> int:
        """The limit of requests per second; 0 for none."""
        if self.rate is not None:
            return self.rate
        return 0 if self.is_local and not self.trusted_proxies else DEFAULT_RATE

    @property
    def address(self) -> str:
        """The address of the server, for people."""
        scheme = "http" if self.tls_cert is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"
