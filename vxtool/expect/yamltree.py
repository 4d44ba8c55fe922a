"""YAML as people write expectations: mappings, lists and plain values, each with its line.

Stricter than YAML on purpose. Files come from strangers: no tags, no anchors (a few lines of aliases unfold to gigabytes), bounded depth and
size, no key twice. And they are about addresses: YAML 1.1 reads the unquoted MAC 02:42:10:00:01:03 as a number in base 60 and `no` as false; here
only null, true, false and decimal numbers are anything but text.
"""

from __future__ import annotations

import re

from vxtool.errors import ExpectationError

from .shapes import At

__all__ = ["parse_yaml"]

DEPTH_LIMIT = 32
VALUES_LIMIT = 1_000_000

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")


def parse_yaml(text: str, source: str) -> At:
    """The one document of a YAML text, with the line of each value. ExpectationError with the line for everything else."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    lines: dict[tuple[str | int, ...], int] = {}
    root: list[object] = []
    stack: list[tuple[object, tuple[str | int, ...]]] = [(root, ())]  # open containers and their paths
    keys: list[str | None] = [None]  # the key that waits for its value, per open container
    count = 0

    def refuse(line: int, why: str) -> ExpectationError:
        return ExpectationError(f"{source}, line {line}: {why}")

    def add(value: object, line: int) -> tuple[str | int, ...]:
        container, path = stack[-1]
        if isinstance(container, dict):
            key = keys[-1]
            if key is None:
                if not isinstance(value, str):
                    value = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
                if not isinstance(value, str):
                    raise refuse(line, "a key must be a text")
                if value in container:
                    raise refuse(line, f"the key {value!r} stands here twice")
                keys[-1] = value
                lines[(*path, value)] = line
                return path
            keys[-1] = None
            container[key] = value
            here: tuple[str | int, ...] = (*path, key)
        else:
            assert isinstance(container, list)
            if container is root and root:
                raise refuse(line, "a second YAML document; one is wanted")
            here = path if container is root else (*path, len(container))
            container.append(value)
        lines[here] = line
        return here

    try:
        for event in yaml.parse(text, Loader=loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            count += 1
            if count > VALUES_LIMIT:
                raise refuse(line, f"more than {VALUES_LIMIT:,} values, the limit")
            if isinstance(event, yaml.AliasEvent):
                raise refuse(line, f"an alias (*{event.anchor}); expectations are written out in full")
            if isinstance(event, yaml.NodeEvent) and (event.anchor is not None or getattr(event, "tag", None) not in (None, "!")):
                raise refuse(line, "an anchor or a tag; expectations are plain mappings, lists and values")
            if isinstance(event, yaml.ScalarEvent):
                add(_plain(event.value) if event.implicit[0] else event.value, line)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                if isinstance(stack[-1][0], dict) and keys[-1] is None:
                    raise refuse(line, "a key must be a text")
                if len(stack) > DEPTH_LIMIT:
                    raise refuse(line, f"nested deeper than {DEPTH_LIMIT} levels")
                container: object = {} if isinstance(event, yaml.MappingStartEvent) else []
                stack.append((container, add(container, line)))
                keys.append(None)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                stack.pop()
                keys.pop()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark and "nesting depth" in (
            error.problem or ""
        ):  # newer libyaml has a limit of its own, and looks ahead before it tells of the first level
            raise refuse(mark.line + 1, f"nested deeper than {DEPTH_LIMIT} levels") from error
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ExpectationError(f"{source}{at}: this is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ExpectationError(f"{source}: this is not YAML: {str(error).splitlines()[0]}") from error
    return At(root[0] if root else None, source, (), lines)


def _plain(text: str) -> object:
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    return int(text) if _INTEGER.fullmatch(text) else text
