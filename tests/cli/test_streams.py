"""What a shell may have done to the standard streams, and numbers that are none."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from vxtool.cli.lab.exec import what_and_how
from vxtool.errors import UsageError


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_has_closed_is_dev_null_and_no_later_file(closed: str) -> None:
    code = "import os, sys; from vxtool.cli import main; sys.argv = ['vxtool', 'checks']; main()"
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&- " not in f"{closed} ".replace("2>&-", ""))


@pytest.mark.parametrize("cpus", [math.nan, math.inf, 1e9])
def test_a_number_of_processors_that_no_machine_has_is_refused(cpus: float) -> None:
    given = {"variables": (), "memory": None, "cpus": cpus, "pids": None, "user": None, "privileged": False, "workdir": None}
    with pytest.raises(UsageError, match=r"a number from 0\.01 to 8,192 is wanted"):
        what_and_how(given)
