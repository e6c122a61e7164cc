"""The settings of a server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from indelible.errors import InvalidInput

DEFAULT_PORT = 7373


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of a server.

    Attributes:
        host: the address to listen on.
        port: the port to listen on.
        url: the database, as for `connect`.
        schema: the schema of the store, as for `connect`.
        requires_token: whether each request needs a token. None: unless only programs of this
            machine can reach the server, and not through a proxy.
        allowed_hosts: further names under which browsers may reach the server.
        tls_cert: the file with the certificate, in PEM format; None for plain HTTP.
        tls_key: the file with its key.
        trusted_proxies: addresses or networks of reverse proxies. Only these may name the client in
            `X-Forwarded-For`, and its scheme in `X-Forwarded-Proto`.
        max_body_bytes: the largest body of a request, in bytes.
        heartbeat: seconds after which a subscription without events sends a comment.
        pool_size: the connections to the database of each worker.
        timeout: seconds that a request may wait for the database.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    url: str | None = None
    schema: str | None = None
    requires_token: bool | None = None
    allowed_hosts: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    max_body_bytes: int = 16 * 1024 * 1024
    heartbeat: float = 15.0
    pool_size: int = 10
    timeout: float = 10.0

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
    def address(self) -> str:
        """The address of the server, for people."""
        scheme = "http" if self.tls_cert is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"
