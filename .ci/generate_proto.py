"""Write the modules of `kurrentdb/proto` from its `.proto` files.

Run it with `grpcio-tools` installed. With `--check` it writes nothing, and fails if a module is not
what it would write.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).parents[1] / "src"
_FOLDER = Path("indelible/kurrentdb/proto")


def _without_version(text: str) -> str:
    """Leave out what binds a module to the release of protobuf that made it.

    The calls of a module are the same since protobuf 4. The check of its version would refuse every
    major release but two.
    """
    kept: list[str] = []
    is_check = False
    for line in text.splitlines():
        is_check = is_check or "ValidateProtobufRuntimeVersion" in line
        is_version = "runtime_version" in line or line.startswith("# Protobuf Python Version")
        if not is_check and not is_version:
            kept.append(line)
        is_check = is_check and line != ")"
    return "\n".join(kept) + "\n"


def _generate() -> dict[Path, str]:
    files = sorted(str(path.relative_to(_SOURCE)) for path in (_SOURCE / _FOLDER).glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={_SOURCE}"),
                *(f"--python_out={folder}", f"--pyi_out={folder}", *files),
            ],
            check=True,
        )
        return {
            _SOURCE / path.relative_to(folder): _without_version(path.read_text("utf-8"))
            for path in sorted((Path(folder) / _FOLDER).iterdir())
        }


def main() -> int:
    """Write the modules, or check them; return the exit code."""
    is_check = sys.argv[1:] == ["--check"]
    wrong = []
    for path, text in _generate().items():
        if is_check:
            if not path.exists() or path.read_text("utf-8") != text:
                wrong.append(path)
        else:
            path.write_text(text, "utf-8")
    for path in wrong:
        print(f"{path} is not what its .proto file says: run .ci/generate_proto.py")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
