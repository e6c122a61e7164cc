"""The npm packages of competitors, installed once into `build/`, which git ignores."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from .rounds import NotRun

FOLDER = Path(__file__).parents[2] / "build" / "bench-npm"
PACKAGES = {
    "@eventide/message-db": "1.3.1",
    "@event-driven-io/emmett": "0.42.0",
    "@event-driven-io/emmett-postgresql": "0.42.0",
}


@cache
def folder_of(package: str) -> Path:
    """Return the folder of a package, and install all packages if they are missing.

    Raises:
        NotRun: npm is missing, or cannot install the packages.
    """
    found = FOLDER / "node_modules" / package
    if not found.exists():
        _install()
    return found


@cache
def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotRun("npm is not installed (Debian: apt-get install npm)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "package.json").write_text('{"private": true}\n', "utf-8")
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    print("Installing", *wanted)
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *wanted],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["npm failed"])[-1]
        raise NotRun(f"npm could not install the packages: {last}")
