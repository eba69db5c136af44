"""A YAML file as nested keys that know their lines; what YAML itself would pass over in silence is refused."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, cast

import yaml

from switchnorm.errors import InputError
from switchnorm.text import decode

#: How deep a file may nest, and how many values it may hold, with every alias written out.
DEEPEST, LARGEST = 32, 10_000
#: The first line of a file whose last one, YAML's end of a document, tells that nothing was cut off, and that one.
_WHOLE, _END = "# Every key; the last line is the end.", "..."
# Bytes of a file: PyYAML takes a second for so many. And characters of a number.
_LONGEST, _MOST_DIGITS = 500_000, 40


@dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True)
class Located:
    """What one YAML file says, or several merged, and where.

    Args:
        content: the nested keys.
        origin: where each key was set, by its dotted name: "train.epochs", and also "train". What is inside a list
            has no name.
    """

    content: dict[str, Any]
    origin: dict[str, Place]


def read_located(
    path: Path, title: str, expected: str = "recipe; expected keys such as 'model', 'data' and 'train'"
) -> Located:
    """Read a YAML file that holds a mapping.

    Args:
        path: the file.
        title: what messages call it.
        expected: what it is supposed to be, for the error where it is none.

    Raises:
        InputError: invalid YAML, a file that was cut, a key that is set twice or is no plain name or number, an alias
            inside of what it stands for, or more nesting than any recipe needs; names file and line.
    """
    text = _read_text(path, title)
    if len(text) > _LONGEST:
        raise InputError(f"{title} has {len(text)} characters, of {_LONGEST} that a recipe may have")
    if text.startswith(_WHOLE) and text.rstrip().rpartition("\n")[2] != _END:
        raise InputError(f"{title} has lost its end: its last line is to be '{_END}'; put back what was there")
    try:
        loader = _Loader(text, title)
        root = loader.get_single_node()
        if not _is_mapping(root):
            raise InputError(f"{title} is no {expected}")
        origin: dict[str, Place] = {}
        return Located(_content(loader, root, "", origin), origin)
    except yaml.reader.ReaderError as error:
        place = Place(title, text.count("\n", 0, error.position) + 1)
        raise InputError(f"{place}: no valid YAML: {error.reason}, got {error.character!r}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = title if mark is None else f"{_place(mark)}, column {mark.column + 1}"
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"{where}: no valid YAML: {' '.join(problem.split())}") from error


def written(content: dict[str, Any]) -> str:
    """Keys as a file of YAML that `read_located` reads, and refuses where its end is missing."""
    return f"{_WHOLE}\n{yaml.safe_dump(content, sort_keys=False, explicit_end=True)}"


def check_value(text: str, title: str) -> None:
    """Refuse a value that nests as no value of a recipe may; text that is no YAML stands for itself.

    Args:
        text: as a flag has it.
        title: what messages call it.

    Raises:
        InputError: a key that is set twice, an alias inside of what it stands for, or more nesting or values than any
            recipe needs.
    """
    with contextlib.suppress(yaml.YAMLError):
        _Loader(text, title).get_single_node()


class _Loader(yaml.SafeLoader):
    """Composes the nodes of a file, which know their lines."""

    def __init__(self, text: str, title: str) -> None:
        super().__init__(text)
        self.name = title
        self._depth = 0
        self._composed = 0
        self._extents: dict[int, tuple[int, int]] = {}  # by node: how deep it nests, and how many values it holds

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Compose a node, or take the one that an alias stands for."""
        place = _place(self.peek_event().start_mark)
        self._depth += 1
        self._composed += 1
        if self._composed > LARGEST:  # a list counts what it holds once it is complete
            raise InputError(f"{place}: more than {DEEPEST} levels or {LARGEST} values; write fewer")
        if self._depth > DEEPEST:
            raise InputError(f"{place}: nested more than {DEEPEST} deep; write it flatter")
        node = cast(yaml.Node, super().compose_node(parent, index))
        self._depth -= 1
        if node.end_mark is None:  # set once a node is complete, so this alias is inside of the node
            raise InputError(f"{place}: an alias stands inside of what it stands for; write the values out")
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and len(node.value) > _MOST_DIGITS:
            raise InputError(f"{place}: a number has {len(node.value)} digits; write a smaller one")
        depth, values = 0, 0
        for child in _children(node):
            child_depth, child_values = self._extents[id(child)]
            depth, values = max(depth, child_depth), values + child_values
        self._extents[id(node)] = depth, values = depth + 1, values + 1
        if depth > DEEPEST or values > LARGEST:
            raise InputError(
                f"{place}: more than {DEEPEST} levels or {LARGEST} values with aliases written out; write fewer"
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, in which no key may stand twice: YAML would take the last."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], Place] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                place = _place(key.start_mark)
                before = first.setdefault((key.tag, key.value), place)
                if before is not place:
                    raise InputError(f"{place}: key {key.value!r} is also set in line {before.line}; leave one of them")
        return node


def _content(loader: _Loader, node: yaml.MappingNode, prefix: str, origin: dict[str, Place]) -> dict[str, Any]:
    """The values of a mapping; notes the place of every key in `origin`."""
    loader.flatten_mapping(node)  # writes out "<<"
    content: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, place = _value(loader, key_node), _place(key_node.start_mark)
        numbered = bool(prefix) and type(key) is int  # a mapping of an option's own, as data.values
        if not numbered and (not isinstance(key, str) or "." in key):
            raise InputError(
                f"{place}: key {key!r} must be a name without dots; nest keys, as in 'train: {{epochs: 3}}'"
            )
        origin[f"{prefix}{key}"] = place
        if _is_mapping(value_node):
            content[key] = _content(loader, value_node, f"{prefix}{key}.", origin)
        else:
            content[key] = _value(loader, value_node)
    return content


def _value(loader: _Loader, node: yaml.Node) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    # Such as the date 2024-13-01; or a tag that does not fit what it is before, as of !!bool maybe.
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise InputError(f"{_place(node.start_mark)}: no valid YAML: {error}") from error


def _is_mapping(node: yaml.Node | None) -> TypeGuard[yaml.MappingNode]:
    return isinstance(node, yaml.MappingNode) and node.tag == yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for entry in node.value for child in entry]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _place(mark: Any) -> Place:
    return Place(mark.name, mark.line + 1)


def _read_text(path: Path, title: str) -> str:
    try:
        return decode(path.read_bytes(), title)
    except OSError as error:
        raise InputError(f"{title} cannot be read: {error.strerror}") from error
