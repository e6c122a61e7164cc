"""A laboratory for fail-overs: servers are replicated, promoted, copied and restored.

Each `Node` is a PostgreSQL server. Its methods do what an operator, a cluster manager or a disaster
does, with PostgreSQL's own programs.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from tests.support.servers import SystemServer
from tests.support.waiting import wait_until

N = TypeVar("N", bound="Node")

_SETTINGS = {
    "shared_buffers": "16MB",
    "max_connections": "100",
    "wal_keep_size": "64MB",  # for standbys without a slot
    "wal_retrieve_retry_interval": "100ms",
}


def fake_clock() -> Path | None:
    """The library that moves a program's clock (Debian: libfaketime), or None."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class Node(SystemServer):
    """A server of the laboratory.

    Args:
        lab: the laboratory.
        origin: the data folder that it begins with; None for a new one.
        recovers: whether it begins with a point-in-time recovery, to the end of the WAL there is.
        clock: how many seconds its clock is ahead; below 0: behind.
        settings: settings of the server.
    """

    def __init__(
        self,
        lab: Lab,
        *,
        origin: Path | None = None,
        recovers: bool = False,
        clock: float = 0,
        **settings: str,
    ) -> None:
        super().__init__(lab.next_folder(), lab.binaries, **{**_SETTINGS, **settings})
        self._lab = lab
        self._origin = origin
        self._recovers = recovers
        if clock:
            self.environment = {
                "LD_PRELOAD": str(fake_clock()),
                "FAKETIME": f"{clock:+g}",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DISABLE_SHM": "1",
            }

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def __exit__(self, *failure: object) -> None:
        if (self.data / "postmaster.pid").exists():  # otherwise it was stopped before
            super().__exit__(*failure)

    def _fill(self, *options: str) -> None:
        if self._origin is None:
            super()._fill("--wal-segsize=1", *options)  # little to copy
        else:
            self._run_as_account("cp", "-a", self._origin, self.data)
        if self._recovers:
            self._settings["restore_command"] = "false"
            self._run_as_account("touch", self.data / "recovery.signal")

    # Looking at it and changing it

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, in autocommit; give its rows, if it has any."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, *parameters: object) -> Any:
        """Run a statement, and give the one value of its one row."""
        ((value,),) = self.query(sql, *parameters)
        return value

    def set(self, name: str, value: str) -> None:
        """Change a setting while it runs."""
        self.query(f"ALTER SYSTEM SET {name} = '{value}'")
        self.query("SELECT pg_reload_conf()")

    @property
    def timeline(self) -> int:
        """Its timeline: another one after each promotion and each point-in-time recovery."""
        return int(self.value("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"), 16)

    @property
    def identifier(self) -> int:
        """Its system identifier, which all copies of its data folder have."""
        return int(self.value("SELECT system_identifier FROM pg_control_system()"))

    def flush(self) -> str:
        """Flush all WAL, which only then goes to standbys; return up to where there is some."""
        self.query("SELECT pg_logical_emit_message(true, 'lab', '')")  # the commit flushes
        return str(self.value("SELECT pg_current_wal_flush_lsn()"))

    # Replication

    def standby(self, *, slot: bool = False, clock: float = 0, **settings: str) -> Standby:
        """Start a streaming standby of this server."""
        standby = Standby(self._lab, primary=self, slot=slot, clock=clock, **settings)
        return self._lab.start(standby)

    def base_backup(self) -> Path:
        """Take a base backup of what it holds now; give its folder."""
        folder = self._lab.next_folder()
        self.back_up_to(folder)
        return folder

    def back_up_to(self, folder: Path, *options: str) -> None:
        """Take a base backup of what it holds now, into a folder that is not there yet."""
        self._run_as_account(
            self._binaries / "pg_basebackup", f"--pgdata={folder}", f"--dbname={self.url}",
            "--checkpoint=fast", "--no-sync", *options,
        )  # fmt: skip

    # Dump and restore

    def dump(self, *options: str, database: str = "postgres") -> bytes:
        """Dump a database as SQL."""
        return subprocess.run(
            [self._binaries / "pg_dump", *options, self.url_of(database)],
            check=True,
            capture_output=True,
        ).stdout

    def load(self, dump: bytes, *, database: str = "postgres") -> None:
        """Restore a dump into a database, which is made where it is not there."""
        if not self.value("SELECT count(*) FROM pg_database WHERE datname = %s", database):
            self.query(f"CREATE DATABASE {database}")
        subprocess.run(
            [
                self._binaries / "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1",
                self.url_of(database),
            ],
            input=dump,
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def exchange(self, database: str) -> None:
        """Give a database the name of the first one, which nobody may be at."""
        with psycopg.connect(self.url_of("template1"), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE postgres RENAME TO before_{database}")
            connection.execute(f"ALTER DATABASE {database} RENAME TO postgres")

    def wait_until_subscribed(self) -> None:
        """Wait until a logical subscription has copied what was there when it was made."""
        wait_until(
            lambda: (
                not self.query("SELECT srrelid FROM pg_subscription_rel WHERE srsubstate <> 'r'")
            )
        )

    def wait_for_subscriber(self, name: str) -> None:
        """Wait until a logical subscriber has all that is written here."""
        written = self.flush()
        wait_until(
            lambda: self.query(
                "SELECT pid FROM pg_stat_replication WHERE application_name = %s"
                " AND replay_lsn >= %s::pg_lsn",
                name,
                written,
            )
        )

    def url_of(self, database: str) -> str:
        """The URL of one of its databases."""
        return make_conninfo(self.url, dbname=database)


class Standby(Node):
    """A server that follows another one, until it is promoted."""

    def __init__(self, lab: Lab, *, primary: Node, slot: bool, **options: Any) -> None:
        super().__init__(lab, **options)
        self.primary = primary
        self._slot = slot

    def _fill(self, *options: str) -> None:
        name = self.folder.name
        slot = ["--create-slot", f"--slot={name}"] if self._slot else []
        self.primary.back_up_to(self.data, "--write-recovery-conf", *slot, *options)

    @property
    def is_promoted(self) -> bool:
        """Whether it takes writes."""
        return not self.value("SELECT pg_is_in_recovery()")

    def catch_up(self) -> None:
        """Wait until it has replayed all that its primary has written."""
        written = self.primary.flush()
        wait_until(lambda: self.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written))

    def stop_receiving(self) -> None:
        """Be cut off from the primary: it goes on with what it has, and a promotion loses more."""
        self.set("primary_conninfo", "")
        wait_until(lambda: not self.query("SELECT pid FROM pg_stat_wal_receiver"))

    def pause_replay(self) -> None:
        """Receive and do not replay: it is behind, and its promotion loses nothing all the same."""
        self.query("SELECT pg_wal_replay_pause()")
        wait_until(lambda: self.value("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def wait_until_received(self) -> None:
        """Wait until it has received all that its primary has written, replayed or not."""
        written = self.primary.flush()
        wait_until(
            lambda: self.value(
                "SELECT flushed_lsn >= %s::pg_lsn FROM pg_stat_wal_receiver", written
            )
        )

    def follow(self, primary: Node) -> None:
        """Follow another primary from now on."""
        self.primary = primary
        self.set("primary_conninfo", primary.url)

    def promote(self) -> None:
        """Become a primary, on a new timeline."""
        self._run("pg_ctl", "promote", "--wait")
        wait_until(lambda: self.is_promoted)


class Lab:
    """Makes servers from the programs of one PostgreSQL, and ends them; a context manager.

    Args:
        folder: where their folders are, until the end; nothing is there yet.
        binaries: the programs.
        origin: the data folder that each primary begins with; None for an empty server.
    """

    def __init__(self, folder: Path, binaries: Path, origin: Path | None = None) -> None:
        self._folder = folder
        self.binaries = binaries
        self._origin = origin
        self._numbers = count(1)
        self._running = ExitStack()

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o777)
        self._folder.chmod(0o777)
        return self

    def __exit__(self, *failure: object) -> None:
        self._running.close()
        shutil.rmtree(self._folder)

    def next_folder(self) -> Path:
        """The name of a folder that is not there yet."""
        return self._folder / f"n{next(self._numbers)}"

    def start(self, node: N) -> N:
        """Start a server, until the end of the laboratory."""
        self._running.enter_context(node)
        return node

    def primary(self, *, clock: float = 0, **settings: str) -> Node:
        """Start a server of its own."""
        return self.start(Node(self, origin=self._origin, clock=clock, **settings))

    def restore(self, backup: Path, *, recover: bool, clock: float = 0, **settings: str) -> Node:
        """Start a server from a base backup.

        Args:
            backup: its folder, which stays as it is.
            recover: as a point-in-time recovery, on a new timeline; else as a copied data folder
                or a snapshot of a disk: on the same timeline, with the same system identifier.
            clock: how many seconds its clock is ahead.
            settings: settings of the server.
        """
        node = self.start(Node(self, origin=backup, recovers=recover, clock=clock, **settings))
        wait_until(lambda: not node.value("SELECT pg_is_in_recovery()"))
        return node
