"""Options that are a time or a size: `10s`, `500ms`, `32MB`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["DURATION", "SIZE"]


class _Quantity(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions
    """A number and a unit; without one it is what `units` says of the empty word."""

    def __init__(self, name: str, units: Mapping[str, float], example: str) -> None:
        self.name = name
        self._units = units
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if not isinstance(value, str):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)", value.strip())
        if match is None or match[2].lower() not in self._units or not float(match[1]):
            units = ", ".join(unit for unit in self._units if unit)
            self.fail(f"{value!r} is no {self.name}: write it like {self._example} (units: {units})", param, ctx)
        return float(match[1]) * self._units[match[2].lower()]


DURATION = _Quantity("duration", {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}, "10s")
"""In seconds."""

SIZE = _Quantity("size", {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}, "32MB")
"""In bytes; a kilobyte has 1,024, as memory is counted."""
