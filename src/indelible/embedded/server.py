"""Start, share and release the embedded server of a folder."""

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
"""The limit of a Unix socket's path in bytes: 107 on Linux and 103 on macOS."""
_PLAIN_PATH = re.compile(r"[\w./ +@%=:-]+", re.ASCII)
"""The characters without a special meaning in the socket folder of PostgreSQL and its driver."""


class EmbeddedServer:
    """A claim to the server of a folder, which runs while any process has a claim.

    Attributes:
        url: the URL of the server, through a Unix socket.
        folder: the folder of the server.
    """

    __slots__ = ("_claim", "folder", "url")

    def __init__(self, url: str, folder: Path, claim: _Claim) -> None:
        self.url: str = url
        self.folder: Path = folder
        self._claim: _Claim | None = claim

    def close(self) -> None:
        """Release the claim without waiting for the server to stop. Closing twice is allowed.

        The server stops when no process has a claim. A process that ends, even if it is killed,
        releases its claims.
        """
        with _guard:
            claim, self._claim = self._claim, None
            if claim is not None:
                claim.give_back()


@dataclass(slots=True)
class _Claim:
    """The claim of this process to the server of a folder, shared by all its users.

    Attributes:
        folder: the folder of the server.
        lock: the open users lock, held in shared mode. It is closed and never unlocked: a forked
            child shares it, and unlocking would release the claim of both.
        users: the number of users in this process.
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
        """Return whether the folder was removed, and perhaps created again."""
        try:
            return not os.path.samestat(os.fstat(self.lock), (self.folder / "users.lock").stat())
        except FileNotFoundError:
            return True


_claims: dict[Path, _Claim] = {}
_guard = threading.RLock()
if sys.platform != "win32":
    # A fork waits until no thread is starting a server: the child must not get a partial claim.
    os.register_at_fork(
        before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release
    )


def start(folder: Path | None = None) -> EmbeddedServer:
    """Start the server of a folder, or use it if it is running already.

    This blocks: for some milliseconds if the server is running, for a second if it must create the
    database. A forked child inherits the claims of its parent.

    Args:
        folder: the folder for the data, created if it is missing. None for the default folder of
            the user (for root below `/var/lib/indelible`).

    Returns:
        A claim to the server, which the caller must close.

    Raises:
        EmbeddedUnavailable: the server cannot run here; the message says why.
    """
    if sys.platform == "win32":
        raise EmbeddedUnavailable(
            "the embedded PostgreSQL runs on Linux and macOS only: pass the URL of a database"
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
            " choose another with embedded:///some/folder, or pass the URL of a database"
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
    """Start the server and its supervisor if they are not running; return the server's URL.

    The caller holds the start lock and a users lock. So no other process starts a server, and no
    supervisor stops it.
    """
    found = supervisor.find_server(folder)
    if found is None or not supervisor.is_held(folder, "supervisor.lock"):
        _run_supervisor(folder, binaries, start_lock)
        found = supervisor.find_server(folder)
    if found is None:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL of {folder} ended right after it had started: see its log"
            f" {folder / 'log'}"
        )
    host = quote(found.socket_folder, safe="")
    return f"postgresql://postgres@/postgres?host={host}&port={found.port}"


def _replace_dead_supervisor(folder: Path) -> None:
    """Replace a supervisor that has died, so that the server is stopped after its last user."""
    with suppress(OSError, EmbeddedUnavailable):
        start_lock = supervisor.open_lock(folder, "start.lock")
        try:
            # A process that holds the start lock also starts the supervisor.
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
    for _ in range(3):  # a supervisor that is killed before it is ready is started again
        said = subprocess.run(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # the supervisor writes one line and closes it
            stderr=subprocess.DEVNULL,
            cwd="/",
            pass_fds=[start_lock],  # held by both, in case one of them is killed
            start_new_session=True,  # so that Ctrl-C in the terminal does not reach it
            text=True,
            errors="replace",
            check=False,
        ).stdout.strip()
        if said == "ready":
            return
        if said:
            raise EmbeddedUnavailable(said)
    raise EmbeddedUnavailable(
        f"the supervisor of the embedded PostgreSQL of {folder} ended without a message: check that"
        f" {sys.executable!r} is a working Python"
    )


def _socket_folder(folder: Path, account: Account) -> Path:
    """Return the folder of the server's socket; only its account may enter: it has no password."""
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
            f"the folder {found} for the server's socket belongs to another account, or other"
            " accounts may enter it: remove it"
        )
    account.check_reaches(found)
    return found
