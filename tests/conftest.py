"""How the tests are run: hypothesis draws the same examples for the same code, so that a commit that passed once passes again.

Vectors of other folders (VXTOOL_VECTORS) are reported by one line for each case that fails, unless `--tb` asks for more.

Other examples are looked for, anew every time, with `pytest --hypothesis-profile=search`; what they find becomes a case of its own.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("search", deadline=None)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("VXTOOL_VECTORS") and config.option.tbstyle == "auto":
        config.option.tbstyle = "no"
