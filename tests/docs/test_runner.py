"""The runner of the pages: it does what a reader does, and notices what does not work."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import Command, File, PageFailure, Paste, matches, run, steps, units

_PAGE = """
# A page

```console
$ pip install pytest
$ mkdir -p shop && cd shop
$ export INDELIBLE_URL="embedded://$PWD/store"
```
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="page-") as at:
        yield Path(at)


def _run(home: Path, *parts: str) -> None:
    run("\n".join([_PAGE, *parts]), home, home)


def _console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```", ""])


def _python(*lines: str, output: str | None = None, title: str | None = None) -> str:
    opening = f'```python title="{title}"' if title else "```python"
    below = [] if output is None else ["", "```text", output, "```"]
    return "\n".join([opening, *lines, "```", *below, ""])


def test_commands_share_one_shell_and_a_command_may_have_several_lines(home: Path) -> None:
    _run(
        home,
        _console("$ export DISH=soup", "$ cat <<END", "> a $DISH", "> END", "a soup"),
        _console('$ test "$(basename "$PWD")" = shop'),
    )


def test_a_command_with_another_output_fails(home: Path) -> None:
    with pytest.raises(PageFailure, match=r"echo soup\nexpected:\n    bread\noutput:\n    soup"):
        _run(home, _console("$ echo soup", "bread"))


@pytest.mark.parametrize("shown", [[], ["..."]])
def test_a_command_that_fails_fails_unless_the_page_shows_how(home: Path, shown: list[str]) -> None:
    with pytest.raises(PageFailure, match="line 11: it ended with 1"):
        _run(home, _console("$ false", *shown))
    _run(home, _console("$ cat nowhere", "cat: nowhere: ..."))


def test_the_blocks_of_python_are_one_session_in_the_folder_of_the_page(home: Path) -> None:
    _run(
        home,
        _python("import os", "dish = 'soup'"),
        _console("$ echo bread > dish"),
        _python("print(dish, open('dish').read(), __name__)", output="soup bread\n __main__"),
        _python("print(os.environ['INDELIBLE_URL'])", output="embedded:///.../shop/store"),
    )


def test_a_block_with_another_output_fails(home: Path) -> None:
    with pytest.raises(PageFailure, match="line 11: its output differs"):
        _run(home, _python("print('soup')", output="bread"))


def test_a_block_that_raises_fails_and_the_report_has_the_line_of_the_page(home: Path) -> None:
    with pytest.raises(PageFailure, match=r'File "<page>", line 12.*\n.*ZeroDivisionError'):
        _run(home, _python("print('before')", "1 / 0"))


def test_a_file_is_written_and_can_be_imported_and_run(home: Path) -> None:
    _run(
        home,
        _python("DISH = 'soup'", title="menu.py"),
        _python("def test_menu():", "    assert True", title="test_menu.py"),
        _python("import menu", "print(menu.DISH)", output="soup"),
        _console("$ pytest -q test_menu.py", "...", "1 passed in ..."),
    )


def test_what_the_install_line_does_not_name_is_not_there(home: Path) -> None:
    with pytest.raises(PageFailure, match="No module named 'fastapi'"):
        _run(home, _python("import fastapi"))
    with pytest.raises(PageFailure, match="fastapi: command not found"):
        _run(home, _console("$ fastapi --version"))
    _run(home, _console("$ pip install fastapi", "$ python -c 'import fastapi'"))
    with pytest.raises(PageFailure, match="requires the httpx"):
        _run(home, _python("from fastapi.testclient import TestClient"))


def test_a_program_of_a_package_may_start_processes_that_import_it_again(home: Path) -> None:
    again = "runpy.run_path(shutil.which('pytest'), run_name='__mp_main__')"
    _run(home, _console(f'$ python -c "import runpy, shutil; {again}"'))


def test_a_package_that_the_tests_cannot_install_fails(home: Path) -> None:
    with pytest.raises(PageFailure, match="no-such-package is not installed here"):
        _run(home, _console("$ pip install no-such-package"))


def test_a_page_without_a_store_of_its_own_fails(home: Path) -> None:
    with pytest.raises(PageFailure, match="store of its own"):
        run(_python("import indelible"), home, home)


def test_what_runs_in_the_background_ends_with_the_page(home: Path) -> None:
    _run(home, _console("$ sleep 1000 &", "$ echo $! > pid"))

    process = Path("/proc") / (home / "shop" / "pid").read_text().strip()
    assert not process.exists()


def test_a_command_that_ends_a_program_waits_for_its_end(home: Path) -> None:
    program = (
        "import pathlib, signal, time",
        "def end(*_):",
        "    time.sleep(0.3)",
        "    pathlib.Path('ended').touch()",
        "    raise SystemExit",
        "signal.signal(signal.SIGTERM, end)",
        "pathlib.Path('ready').touch()",
        "signal.pause()",
    )
    _run(
        home,
        _python(*program, title="program.py"),
        _console("$ python program.py &", "$ until test -e ready; do sleep 0.01; done"),
        _console("$ kill %1", "$ test -e ended"),
    )


def test_a_command_without_an_end_is_ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SECONDS", 0.5)

    with pytest.raises(PageFailure, match=r"did not end within 0\.5 s"):
        _run(home, _console("$ sleep 1000"))


def test_the_parts_of_a_page() -> None:
    page = """
- In a list:

    ```python
    if True:
        pass
    ```

```console
$ one
$ two \\
>   three
out ...
```

<!-- not run: needs Docker -->
```console
$ docker build .
```

```ini title="shop.ini"
[shop]
```

```sql
SELECT 1;
```

```python
print(1)
```

Output that is not right below is only shown.

```text
2
```
"""

    assert steps(page) == [
        Paste(5, "if True:\n    pass\n", None),
        Command(10, "one", None),
        Command(11, "two \\\n  three", "out ..."),
        File(22, "shop.ini", "[shop]\n"),
        Paste(30, "print(1)\n", None),
    ]


def test_the_numbered_pages_of_a_folder_are_run_as_one() -> None:
    assert units(["b/2-two.md", "b/1-one.md", "b/more.md", "a/1-one.md", "index.md"]) == [
        ("a", ["a/1-one.md"]),
        ("b", ["b/1-one.md", "b/2-two.md"]),
        ("b/more.md", ["b/more.md"]),
        ("index.md", ["index.md"]),
    ]


@pytest.mark.parametrize(
    "page",
    [
        _console("output", "$ true"),
        _console("$ echo 1") + "\n```text\n1\n```\n",
    ],
)
def test_output_that_belongs_to_no_command_is_refused(page: str) -> None:
    with pytest.raises(PageFailure):
        steps(page)


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        ("one", "one\n"),
        ("one", "\none   \n\n"),
        ("o...", "one"),
        ("(a) ... c", "(a) b c"),
        ("one\n...", "one"),
        ("...\nthree", "one\ntwo\nthree"),
        ("one\n\ntwo", "one\n\ntwo"),
    ],
)
def test_an_output_that_matches(expected: str, output: str) -> None:
    assert matches(expected, output)


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        ("one", ""),
        ("one", "one two"),
        ("one", "one\ntwo"),
        ("o...", "one\ntwo"),
        ("one\n...\nthree", "one\ntwo"),
        ("a.c", "abc"),
    ],
)
def test_an_output_that_does_not_match(expected: str, output: str) -> None:
    assert not matches(expected, output)
