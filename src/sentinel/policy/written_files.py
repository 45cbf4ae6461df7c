"""Files that people write: YAML that is read strictly, so that nothing in it is passed over without a word."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from sentinel.errors import InvalidDefinition

MOST_BYTES = 1 << 20


class _Strict(yaml.SafeLoader):
    """A safe loader that takes no name twice, as the last one would win without a word, and no `*name`.

    With those a short text says something endless, or itself.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """See Composer. Raises ComposerError."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"*{event.anchor} stands for what is written elsewhere; write it out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See SafeLoader. Raises ConstructorError."""
        seen = set()
        for name in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name} stands there twice", node.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """What a file says. Raises FileNotFoundError, and InvalidDefinition for no YAML, or more than 1 MB of it."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    return yaml_in(raw, str(path))


def yaml_in(raw: bytes | str, where: str) -> Any:
    """What a text says. Raises InvalidDefinition, which names `where` it stands, as `read_yaml` does."""
    if len(raw) > MOST_BYTES:
        raise InvalidDefinition(f"{where} is larger than 1 MB; nobody has written that")
    try:
        return yaml.load(raw, Loader=_Strict)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidDefinition(f"{where} is no YAML: {' '.join(str(error).split())}") from error


def check_known(found: Any, kind: Any, where: str, inner: Mapping[str, type[msgspec.Struct]]) -> None:
    """Raise InvalidDefinition for a field that `kind` does not have, also inside of its fields, which are `inner`."""
    if isinstance(found, list):
        for number, one in enumerate(found):
            check_known(one, kind, f"{where}[{number}]", inner)
        return
    if not isinstance(found, dict):
        return
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for name, value in found.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise InvalidDefinition(f"{where} has no field {str(name)[:80]!r}; the nearest is {near}")
        if name in inner:
            check_known(value, inner[name], f"{where}: {name}", inner)
