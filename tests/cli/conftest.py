"""The command line under test, both ways: in this process, and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import CliRunner, Result

from vxtool.cli import vxtool

ROOT = Path(__file__).parents[2]

Invoke: TypeAlias = Callable[..., Result]
Process: TypeAlias = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="session")
def captures() -> Path:
    return ROOT / "captures"


@pytest.fixture
def vm1(captures: Path) -> str:
    return str(captures / "swarm-steady" / "vm1.pcap")


@pytest.fixture
def invoke() -> Invoke:
    """vxtool in this process; the result has stdout, stderr and exit_code."""

    def run(*arguments: str | Path, stdin: bytes | None = None, **env: str) -> Result:
        return CliRunner().invoke(vxtool, [str(argument) for argument in arguments], input=stdin, env=env, catch_exceptions=False)

    return run


@pytest.fixture
def process() -> Process:
    """vxtool as a process, its output as bytes."""

    def run(*arguments: str | Path, stdin: bytes | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "vxtool", *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, env={**os.environ, **env}, timeout=120, check=False)

    return run
