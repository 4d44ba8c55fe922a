"""Frames to rows: knows protocols, opens no files.

    columns     the row, declared once            walk        frames to rows (compiled)
    batch       frames and their rows             reassemble  IP fragments put together
    dns         messages                          reference   the same rows through scapy
    where       --where                           filters     the other filter options
    text, tree, render, table, parquet            rows for people and for programs
    summary     a whole capture in numbers

The package itself can be called: `vxtool.decode("node1.pcap")` is `vxtool.api.decode`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from vxtool import api

        return api.decode(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
