"""Start, join and release the embedded server of a folder."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from indelible.errors import EmbeddedUnavailable

from .paths import default_folder, make_folders, wheel_binaries

if sys.platform != "win32":
    import fcntl

    from . import supervisor
    from .account import Account
    from .supervisor import exclusive_lock

_SOCKET_PATH_LIMIT = 103
"""Bytes: a Unix socket's path has 107 on Linux and 103 on macOS."""
_PLAIN_PATH = re.compile(r"[\w./ +@%=:-]+", re.ASCII)
"""Others mean something where PostgreSQL and its driver take the name of a socket's folder."""


class EmbeddedServer:
    """A claim to the server of a folder, which runs as long as somebody has one.

    Attributes:
        url: where to connect, through a Unix socket.
        folder: where the server keeps its data.
    """

    __slots__ = ("_claim", "folder", "url")

    def __init__(self, url: str, folder: Path, claim: _Claim) -> None:
        self.url: str = url
        self.folder: Path = folder
        self._claim: _Claim | None = claim

    def close(self) -> None:
        """Give the claim back, without waiting for what follows; to do it again does nothing.

        The server stops when nobody has a claim any more. A process that ends, even if it is
        killed, has none.
        """
        with _guard:
            claim, self._claim = self._claim, None
            if claim is not None:
                claim.give_back()


@dataclass(slots=True)
class _Claim:
    """The claim of this process to a folder's server, however many ask for it.

    Attributes:
        lock: the open users lock, held shared. It is closed in the end, and never unlocked: a
            forked child has it too, and one's end must not be the other's.
    """

    folder: Path
    lock: int
    users: int = 0

    def give_back(self) -> None:
        self.users -= 1
        if self.users > 0:
            return
        if _claims.get(self.folder) is self:
            del _claims[self.folder]
        _replace_dead_supervisor(self.folder)
        os.close(self.lock)

    def is_of_another_folder(self) -> bool:
        """Tell whether the folder was removed, and perhaps made again."""
        try:
            return not os.path.samestat(os.fstat(self.lock), (self.folder / "users.lock").stat())
        except FileNotFoundError:
            return True


_claims: dict[Path, _Claim] = {}
_guard = threading.RLock()
if sys.platform != "win32":
    # A fork waits until no thread is starting a server: the child must not get half a claim.
    os.register_at_fork(
        before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release
    )


def start(folder: Path | None = None) -> EmbeddedServer:
    """Start the server of a folder, or join it where it runs already.

    It blocks: some milliseconds to join, a second where the database is to be made. A forked child
    has the claims of its parent as its own.

    Args:
        folder: where the data lives, made where it is missing; None for the user's data folder
            (for root below `/var/lib/indelible`).

    Returns:
        A claim to the server, to be closed.

    Raises:
        EmbeddedUnavailable: it cannot run here; the message says why.
    """
    if sys.platform == "win32":
        raise EmbeddedUnavailable(
            "the embedded PostgreSQL runs on Linux and macOS only: give the URL of a database"
            " (url=… or $INDELIBLE_URL)"
        )
    binaries = wheel_binaries()
    try:
        folder = (folder or default_folder()).resolve()
        with _guard:
            return _claim(folder, binaries)
    except (OSError, RuntimeError) as error:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL cannot use the folder {folder or 'of its data'} ({error}):"
            " choose another with embedded:///some/folder, or give the URL of a database"
        ) from error


def _claim(folder: Path, binaries: Path) -> EmbeddedServer:
    if not folder.exists():
        make_folders(folder)
    elif not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file")
    claim = _claims.get(folder)
    with exclusive_lock(folder, "start.lock") as start_lock:
        if claim is not None and not claim.is_of_another_folder():
            url = _ensure_server(folder, binaries, start_lock)
        else:
            claim = _Claim(folder, supervisor.open_lock(folder, "users.lock"))
            try:
                fcntl.flock(claim.lock, fcntl.LOCK_SH)  # waits while a supervisor stops the server
                url = _ensure_server(folder, binaries, start_lock)
            except BaseException:
                os.close(claim.lock)
                raise
            _claims[folder] = claim
    claim.users += 1
    return EmbeddedServer(url, folder, claim)


def _ensure_server(folder: Path, binaries: Path, start_lock: int) -> str:
    """Start the server and its supervisor if they do not run; return the server's URL.

    We hold the start lock and a users lock: nobody else starts anything, and nobody stops it.
    """
    found = supervisor.find_server(folder)
    if found is None or not supervisor.is_held(folder, "supervisor.lock"):
        _run_supervisor(folder, binaries, start_lock)
        found = supervisor.find_server(folder)
    if found is None:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL of {folder} went away as soon as it had started: see its"
            f" log {folder / 'log'}"
        )
    host = quote(found.socket_folder, safe="")
    return f"postgresql://postgres@/postgres?host={host}&port={found.port}"


def _replace_dead_supervisor(folder: Path) -> None:
    """Make sure that somebody will stop the server when we, its last user perhaps, have left."""
    with suppress(OSError, EmbeddedUnavailable):
        start_lock = supervisor.open_lock(folder, "start.lock")
        try:
            # Where another process is starting it, that one sees to its supervisor too.
            if (
                supervisor.try_lock(start_lock)
                and not supervisor.is_held(folder, "supervisor.lock")
                and supervisor.find_server(folder) is not None
            ):
                _run_supervisor(folder, wheel_binaries(), start_lock)
        finally:
            os.close(start_lock)


def _run_supervisor(folder: Path, binaries: Path, start_lock: int) -> None:
    """Run the supervisor program; return when the server is ready."""
    account = Account.find(folder)
    account.check_reaches(folder)
    binaries = account.reachable_binaries(binaries)
    socket_folder = _socket_folder(folder, account)
    ids = f"{account.uid}:{account.gid}" if account.is_other else ""
    program = [
        sys.executable, "-I", "-S", str(Path(supervisor.__file__).resolve()),
        str(folder), str(binaries), str(socket_folder), ids, str(start_lock),
    ]  # fmt: skip
    for _ in range(3):  # one that is killed before it is done has a successor
        said = subprocess.run(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # until the supervisor closes it, having said its line
            stderr=subprocess.DEVNULL,
            cwd="/",
            pass_fds=[start_lock],  # held by either, should the other be killed
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
            text=True,
            errors="replace",
            check=False,
        ).stdout.strip()
        if said == "ready":
            return
        if said:
            raise EmbeddedUnavailable(said)
    raise EmbeddedUnavailable(
        f"the supervisor of the embedded PostgreSQL of {folder} ended without a word: is"
        f" {sys.executable!r} a Python that runs?"
    )


def _socket_folder(folder: Path, account: Account) -> Path:
    """The folder of the server's socket, closed to everybody else: there are no passwords."""
    found = folder / "socket"
    name = os.fsencode(found / ".s.PGSQL.65023")
    if len(name) > _SOCKET_PATH_LIMIT or not _PLAIN_PATH.fullmatch(os.fsdecode(name)):
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        found = Path(tempfile.gettempdir()).resolve() / f"indelible-{account.uid}-{digest}"
    with suppress(FileExistsError):
        found.mkdir(0o700)
        if account.is_other:
            os.chown(found, account.uid, account.gid, follow_symlinks=False)
    status = found.lstat()
    if found.is_symlink() or status.st_uid != account.uid or status.st_mode & 0o077:
        raise EmbeddedUnavailable(
            f"the folder {found}, meant for the server's socket, is open to others or belongs to"
            " somebody else: remove it"
        )
    account.check_reaches(found)
    return found
