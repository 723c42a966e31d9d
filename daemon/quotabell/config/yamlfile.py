"""Reads YAML into plain data and says everything that is wrong with it, by key path.

On top of YAML's safe subset: a key that stands twice in one mapping is reported (PyYAML takes
the last), values such as ``2026-01-01`` stay text, and ``${VAR}`` is expanded in scalars after
parsing, so that a value from the environment cannot add structure. No message shows a value:
it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from quotabell.config.problems import BROKEN, Loc, Problems
from quotabell.errors import ConfigError

_TAG = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[^{}]*)\}|(?P<open>\$\{)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# In PyYAML's messages: syntax ('<block end>', ',') that may be shown, or words of the file.
_QUOTED = re.compile(r" ?'(?P<syntax>\\?.|<[a-z ]+>)'| ?'[^']*'")


class _Loader(yaml.SafeLoader):
    """The safe loader without dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TAG + "timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str, name: str, environ: Mapping[str, str], problems: Problems) -> dict[str, Any]:
    """The mapping that ``text`` holds; {} for an empty file.

    What is wrong inside goes to ``problems`` and leaves BROKEN in its place. Raises ConfigError
    with the line and column if the text is no YAML, or no mapping; ``name`` is the file's.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = _Reader(loader, environ, problems).read(node, ()) if node else {}
    except yaml.MarkedYAMLError as error:
        raise ConfigError([f"{name}{_place(error)}: {_without_words(error)}"]) from None
    except yaml.YAMLError:
        raise ConfigError([f"{name}: holds a character that YAML does not allow"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: is nested too deeply"]) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError([f"{name}: must be a mapping of sections, such as log: {{level: info}}"])
    return data


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _without_words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be read"
    text = _QUOTED.sub(lambda match: match[0] if match["syntax"] else "", problem)
    if r"\t" in text:
        text += "; indent with spaces"
    if "alias" in text or "tag" in text or "anchor" in text:
        text += "; a value that begins with * & or ! must be in quotes"
    if "':'" in text or "mapping values" in text:
        text += "; a value that holds [ ] { } or a colon and a space must be in quotes"
    return text


class _Reader:
    """Turns the nodes of one document into data, each node once."""

    def __init__(self, loader: _Loader, environ: Mapping[str, str], problems: Problems) -> None:
        self._loader = loader
        self._environ = environ
        self._problems = problems
        self._done: dict[int, Any] = {}  # by id; the document keeps the nodes alive
        self._open: set[int] = set()

    def read(self, node: yaml.Node, loc: Loc) -> Any:
        if id(node) in self._open:
            return self._broken(loc, "is an alias to a value that holds it")
        if id(node) not in self._done:
            self._open.add(id(node))
            self._done[id(node)] = self._fresh(node, loc)
            self._open.discard(id(node))
        return self._done[id(node)]

    def _fresh(self, node: yaml.Node, loc: Loc) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(item, (*loc, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node, loc)
        return self._broken(loc, "has a YAML tag; a value that begins with ! must be in quotes")

    def _scalar(self, node: yaml.ScalarNode, loc: Loc) -> Any:
        if node.tag == _TAG + "str":
            return self._expanded(node.value, loc)
        try:
            return self._loader.construct_object(node)
        except ValueError:
            return self._broken(loc, "is no valid number; put it in quotes if it is text")

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _TAG + "merge":
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                self._problems.add(
                    loc,
                    f"has a key in line {_line(key)} that is not read as text; put it in quotes",
                )
            elif key.value in lines:
                first = lines[key.value]
                text = f"stands here twice, in line {first} and in line {_line(key)}"
                self._problems.add((*loc, key.value), text)
            else:
                lines[key.value] = _line(key)
        self._loader.flatten_mapping(node)  # "<<": the merged pairs come first
        pairs = {key.value: value for key, value in node.value if key.tag == _TAG + "str"}
        return {key: self.read(value, (*loc, key)) for key, value in pairs.items()}

    def _expanded(self, text: str, loc: Loc) -> Any:
        wrong: list[str] = []

        def replace(match: re.Match[str]) -> str:
            name = match["name"]
            if match[0] == "$${":
                return "${"
            if name is None or not _VARIABLE.fullmatch(name):
                wrong.append("holds ${ without a variable name and }; write $${ for a plain ${")
            elif name not in self._environ:
                wrong.append(f"the environment variable {name} is not set")
            else:
                return self._environ[name]
            return ""

        expanded = _REFERENCE.sub(replace, text)
        for problem in wrong:
            self._problems.add(loc, problem)
        return BROKEN if wrong else expanded

    def _broken(self, loc: Loc, problem: str) -> Any:
        self._problems.add(loc, problem)
        return BROKEN


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
