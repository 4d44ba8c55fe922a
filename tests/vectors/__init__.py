"""Facts produced by running Docker's real code, as data (the README beside them has the schemas).

The environment variable VXTOOL_VECTORS names another folder of files with the same schemas; each of its cases is then a test too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

__all__ = ["FOLDER", "cases"]

FOLDER = Path(os.environ.get("VXTOOL_VECTORS") or Path(__file__).parent)


def cases(name: str, key: str = "cases") -> list[Any]:
    """Parameters for pytest: one per case of `NAME.json`, with its id. A folder that has no such file, or list in it, has no cases of it."""
    path = FOLDER / f"{name}.json"
    return [pytest.param(case, id=case["id"]) for case in json.loads(path.read_text()).get(key, ())] if path.exists() else []
