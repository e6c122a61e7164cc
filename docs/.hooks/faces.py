"""Gives the pages the docstrings that the async face takes from the sync one on import."""

from typing import Any

from griffe import Class, Docstring, Extension, Module


class SharedDocstrings(Extension):
    """Copies the docstrings of `X` to the members of `AsyncX` that have none."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """See the base class: all modules of the package are known now."""
        for module in pkg["store"].modules.values():
            classes = module.classes
            for name, face in classes.items():
                twin = classes.get(name.removeprefix("Async"))
                if isinstance(face, Class) and isinstance(twin, Class) and twin is not face:
                    _share(twin, face)


def _share(twin: Class, face: Class) -> None:
    for name, member in face.members.items():
        shared = twin.members[name].docstring if name in twin.members else None
        if shared is not None and member.docstring is None:
            member.docstring = Docstring(
                shared.value,
                parent=member,
                parser=shared.parser,
                parser_options=shared.parser_options,
            )
