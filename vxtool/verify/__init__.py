"""Columns and a Cluster in, verdicts out. Opens nothing, prints nothing.

    verdicts    what a check says                 table        the columns of all captures
    case        what checks share                 connections  TCP, read from both directions
    check       what a check is                   engine       which checks run, on what
    encapsulation, segments, reach, mesh, names, vantages      the checks themselves

A new check is one function with one `@check(...)` above it, in the file of its family.

The package itself can be called: `vxtool.verify(frames, cluster)` is `vxtool.verification.verify`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from vxtool import verification

        return verification.verify(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
