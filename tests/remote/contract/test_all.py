"""Every module of the contract runs over HTTP, or is excluded by name."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.remote.contract.excluded import EXCLUDED, EXCLUDED_MODULES

HERE = Path(__file__).parent
CONTRACT = Path(__file__).parents[2] / "contract"


def modules() -> dict[str, Path]:
    """The modules of the contract by the name that they have here."""
    found = CONTRACT.glob("*/test_*.py")
    return {f"test_{each.parent.name}_{each.stem.removeprefix('test_')}": each for each in found}


def test_every_module_of_the_contract_is_here_or_excluded() -> None:
    here = {each.stem for each in HERE.glob("test_*.py")} - {"test_all"}
    excluded = {
        name
        for name, path in modules().items()
        if f"{path.parent.name}/{path.stem}" in EXCLUDED_MODULES
    }

    assert len(excluded) == len(EXCLUDED_MODULES)
    assert here | excluded == set(modules())
    assert not here & excluded


def test_every_excluded_test_exists() -> None:
    for module, names in EXCLUDED.items():
        code = ast.parse(modules()[module].read_text("utf-8"))
        there = {each.name for each in ast.walk(code) if isinstance(each, ast.FunctionDef)}
        assert names.keys() <= there, module
