"""The files for the deployment of the server: linters and systemd read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile"
COMPOSE = ROOT / "compose.yaml"
UNIT = ROOT / "deploy" / "indelible.service"
TOOLS = Path(sys.executable).parent


def check(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_dockerfile_follows_the_rules_of_hadolint() -> None:
    check(TOOLS / "hadolint", DOCKERFILE)


def test_the_image_runs_without_root_and_checks_its_health() -> None:
    _, _, image = DOCKERFILE.read_text("utf-8").rpartition("\nFROM ")

    user = re.search(r"^USER (\d+)$", image, re.MULTILINE)
    assert user is not None
    assert int(user[1]) > 0
    assert "/health/ready" in image
    assert "COPY --from=build" in image


def test_the_image_gets_what_its_build_needs_and_no_more() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()

    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources
    assert all((ROOT / name).exists() for name in sources)


def test_the_compose_file_is_valid_and_has_no_secrets() -> None:
    check(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    rules = "{extends: default, rules: {document-start: disable, line-length: {max: 100}}}"
    check(TOOLS / "yamllint", "--strict", "--config-data", rules, COMPOSE)

    services = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    for service in services.values():
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or value.startswith("${"), name
            assert not re.search(r"://\w+:(?!\$)", value), name
    assert "ports" not in services["db"]
    assert services["server"]["ports"] == ["127.0.0.1:7373:7373"]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd is not installed")
    # It must be able to find the program.
    text = UNIT.read_text("utf-8").replace("/opt/indelible/bin/indelible", sys.executable)
    unit = tmp_path / UNIT.name
    unit.write_text(text, "utf-8")

    check(systemd, "verify", "--man=no", unit)
    check(systemd, "security", "--offline=yes", "--threshold=20", unit)
