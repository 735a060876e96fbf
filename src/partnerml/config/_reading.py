"""Reading a configuration: YAML, paths, overrides, and what a refusal says."""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml

from partnerml.errors import ConfigError


def nearest(name: str, known: Sequence[str], *, cutoff: float = 0.6) -> str:
    """Return a hint such as ``"; did you mean horizon_days?"``, or nothing if no known name is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=2, cutoff=cutoff)
    return f"; did you mean {' or '.join(folded[match] for match in found)}?" if found else ""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `no` is Norway, 010 a postal code and 2024-01-01 text; a key may come once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key: Any = self.construct_object(key_node, deep=True)
            if not isinstance(key, typing.Hashable):
                continue  # refused below
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}, column {mark.column + 1}:" if mark is not None else ""
        raise ConfigError(f"{where}:{line} not valid YAML: {getattr(error, 'problem', None) or error}") from None


_PATHS = (
    ("data", "source"),
    ("data", "sources", "*"),
    ("data", "tables", "*", "columns", "*", "values"),
    ("output",),
    ("engine", "spill"),
    ("mlflow", "tracking_uri"),
    ("routing", "ledger"),
)
# where a path is that of a database
_STORES = ("mlflow", "routing")


def absolute(tree: Any, base: Path, key: tuple[str, ...] = ()) -> Any:
    """Return the tree with its paths made absolute; lists of blocks count as their blocks."""
    if isinstance(tree, Mapping):
        return {name: absolute(value, base, (*key, str(name))) for name, value in tree.items()}
    if isinstance(tree, list):
        return [absolute(item, base, key) for item in tree]
    if isinstance(tree, str) and any(_matches(key, pattern) for pattern in _PATHS):
        return _absolute_path(tree, base, is_store=key[0] in _STORES)
    return tree


def _matches(key: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return len(key) == len(pattern) and all(want in ("*", have) for have, want in zip(key, pattern, strict=True))


def _absolute_path(text: str, base: Path, *, is_store: bool) -> str:
    prefix = "sqlite:///" if is_store else ""
    if is_store and text.startswith(prefix):
        text = text.removeprefix(prefix)
    elif "://" in text:
        return text
    return prefix + os.path.normpath(base / Path(text).expanduser())


def apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: KEY=VALUE is needed, with a dotted key such as tasks.churn.horizon_days")
    value: Any = parse_yaml(text, f"--set {key}")
    for part in reversed(parts):
        value = {part: value}
    branch: Any = absolute(value, Path.cwd())
    node: Any = tree
    for depth, part in enumerate(parts[:-1]):
        if node.get(part) is None:
            node[part] = {}
        if not isinstance(node[part], dict):
            kind = "a list" if isinstance(node[part], list) else "a single value"
            at = ".".join(parts[: depth + 1])
            raise ConfigError(f"--set {key}: {at} is {kind}, so nothing lies below it; set {at} as a whole")
        node, branch = node[part], branch[part]
    node[parts[-1]] = branch[parts[-1]]


_SHOWN_PROBLEMS = 10


def explain(error: pydantic.ValidationError, tree: Mapping[str, Any], name: str) -> str:
    lines = []
    problems = error.errors(include_url=False)
    for problem in problems[:_SHOWN_PROBLEMS]:
        key = problem.get("ctx", {}).get("key", "")
        path = ".".join([*_written_path(problem["loc"], tree), *([key] if key else [])])
        message = problem["msg"].removeprefix("Value error, ")
        came = "" if problem["type"] in ("partnerml", "value_error", "missing") else f", got {problem['input']!r}"
        lines.append(f"{name}: {path + ': ' if path else ''}{message[:1].lower()}{message[1:]}{came}")
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"... and {len(problems) - _SHOWN_PROBLEMS} more")
    return "\n".join(lines)


def _written_path(loc: tuple[int | str, ...], tree: Any) -> list[str]:
    """Return the path as the user wrote it: without the list that wraps a single block, or names of types."""
    path: list[str] = []
    for part in loc:
        if isinstance(tree, Mapping):
            if isinstance(part, int) and part not in tree:
                continue
            tree = tree.get(part)
        elif isinstance(part, int) and isinstance(tree, list):
            tree = tree[part]
        else:
            continue
        path.append(str(part))
    return path
