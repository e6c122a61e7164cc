"""The smoke test of the built wheel: it only tests errors of packaging.

It runs away from the sources, in an environment with only the package, and needs only the standard
library: `python -I smoke.py`. If the extra `embedded` is installed too, run
`python -I smoke.py --server`; with the extra `server` as well, `python -I smoke.py --http`; with
the extra `kurrentdb`, `python -I smoke.py --kurrentdb`.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

import indelible
from indelible import NO_STREAM, EventStore, IndelibleError, NewEvent

COMMAND = Path(sys.executable).with_name("indelible")


def the_package_is_whole() -> None:
    package = files("indelible")
    assert "site-packages" in str(package), f"these are the sources, not the wheel: {package}"
    assert (package / "py.typed").is_file()
    schema = package / "postgres" / "schema"
    assert (package / "streams" / "statements.sql").is_file()
    assert (schema / "migrations" / "0001_initial.sql").is_file()
    assert (schema / "functions" / "append.sql").is_file()
    assert (schema / "roles.sql").is_file()
    assert indelible.__version__ == version("indelible")
    for name in indelible.__all__:
        getattr(indelible, name)


def the_command_answers() -> None:
    told = subprocess.run([COMMAND, "--help"], check=True, capture_output=True, text=True)
    for command in (
        "append",
        "read",
        "log",
        "run",
        "demo",
        "store",
        "streams",
        "groups",
        "projections",
        "serve",
    ):
        assert command in told.stdout, f"indelible --help does not tell of {command}"


def without_the_extra_the_error_says_what_to_install() -> None:
    os.environ.pop("INDELIBLE_URL", None)
    try:
        EventStore.connect()
    except IndelibleError as error:
        assert "indelible[embedded]" in str(error), str(error)
    else:
        raise AssertionError("there is an embedded PostgreSQL where none was installed")


def an_event_is_appended_and_read() -> None:
    folder = Path(tempfile.gettempdir()) / f"indelible-smoke-{uuid4().hex}"
    try:
        with EventStore.connect(f"embedded://{folder}") as store:
            event = NewEvent("SmokeRose", {"height": 17})
            result = store.append("chimney-1", event, expected=NO_STREAM)
            [recorded] = store.read("chimney-1")
        assert (result.version, recorded.version) == (0, 0)
        assert recorded.id == event.id
        assert recorded.data == {"height": 17}
        assert within_ten_seconds(lambda: not any(folder.rglob("postmaster.pid"))), (
            "the server goes on though nobody uses it any more"
        )
    finally:
        within_ten_seconds(lambda: removed(folder))


def the_http_server_answers_and_stops() -> None:
    folder = Path(tempfile.gettempdir()) / f"indelible-smoke-{uuid4().hex}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [COMMAND, "serve", "--port", str(port)],
        env={**os.environ, "INDELIBLE_URL": f"embedded://{folder}"},
    )
    try:
        assert within_ten_seconds(lambda: answers(f"{address}/health/ready"))
        append = Request(
            f"{address}/api/v1/streams/chimney-1/events",
            data=b'{"events": [{"type": "SmokeRose"}], "expected": "no-stream"}',
            headers={"Content-Type": "application/json"},
        )
        with urlopen(append) as answer:
            assert answer.status == 201
        assert answers(f"{address}/api/v1/docs.css"), "the style of the reference page is missing"
    finally:
        server.terminate()
        server.wait(30)
        within_ten_seconds(lambda: removed(folder))


def the_server_for_kurrentdb_starts_and_stops() -> None:
    folder = Path(tempfile.gettempdir()) / f"indelible-smoke-{uuid4().hex}"
    server = subprocess.Popen(
        [COMMAND, "kurrentdb", "--insecure", "--port", "0"],
        env={**os.environ, "INDELIBLE_URL": f"embedded://{folder}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert "kurrentdb://127.0.0.1:" in line, line
    finally:
        server.terminate()
        assert server.wait(30) == 0
        within_ten_seconds(lambda: removed(folder))


def answers(address: str) -> bool:
    try:
        with urlopen(address) as answer:
            return answer.status == 200
    except URLError:
        return False


def removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def within_ten_seconds(holds: Callable[[], bool]) -> bool:
    for _ in range(100):
        time.sleep(0.1)  # the server and its supervisor print nothing when they end
        if holds():
            return True
    return False


def main() -> None:
    checks = [the_package_is_whole, the_command_answers]
    if "--http" in sys.argv[1:]:
        checks.append(the_http_server_answers_and_stops)
    elif "--kurrentdb" in sys.argv[1:]:
        checks.append(the_server_for_kurrentdb_starts_and_stops)
    elif "--server" in sys.argv[1:]:
        checks.append(an_event_is_appended_and_read)
    else:
        checks.append(without_the_extra_the_error_says_what_to_install)
    for check in checks:
        check()
        print("ok:", check.__name__.replace("_", " "))


if __name__ == "__main__":
    main()
