"""Packages of the npm registry that peers come from, installed below `build/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.harness import NotHere

_PACKAGES = (
    "@eventide/message-db@1.3.1",
    "@event-driven-io/emmett@0.42.0",
    "@event-driven-io/emmett-postgresql@0.42.0",
)
_FOLDER = Path(__file__).parents[2] / "build" / "npm"


def installed() -> Path:
    """Install them where they are not; give the folder that holds `node_modules`."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotHere("node and npm are not installed")
    if not (_FOLDER / "node_modules" / "@event-driven-io").exists():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        (_FOLDER / "package.json").write_text('{"private": true}')
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", *_PACKAGES],
            cwd=_FOLDER,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            raise NotHere(f"npm could not install it: {done.stderr.strip()[-200:]}")
    return _FOLDER
