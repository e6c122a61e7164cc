"""The texts of the SQL statements."""

import re

import pytest

from indelible.postgres.statements import statements


def calls(text: str) -> dict[str, list[str]]:
    """The arguments of the calls of the store's functions in a statement, by function."""
    text = re.sub(r"--[^\n]*", "", text)
    found = {}
    for call in re.finditer(r'"store"\.(\w+)\(', text):
        arguments, depth, position = [""], 1, call.end()
        while depth:
            character = text[position]
            depth += {"(": 1, ")": -1}.get(character, 0)
            if character == "," and depth == 1:
                arguments.append("")
            elif depth:
                arguments[-1] += character
            position += 1
        found[call[1]] = [" ".join(argument.split()) for argument in arguments]
    return found


@pytest.mark.parametrize("name", statements("store"))
def test_a_call_with_more_than_four_arguments_names_them(name: str) -> None:
    for function, arguments in calls(statements("store")[name]).items():
        if len(arguments) > 4:
            unnamed = [argument for argument in arguments if " => " not in argument]
            assert unnamed == [], f"{name} calls {function}"
