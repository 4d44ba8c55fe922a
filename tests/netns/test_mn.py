"""Our topologies under Debian's `mn`, as it comes: `mn --custom FILE --topo NAME --switch lxbr --controller none --test pingall`.

mn makes its bridges in the network namespace it is started in, and sets limits of the machine (mininet.util.fixLimits). When it meets an exception
it runs a clean-up that ends processes by name, deletes links by name and removes /tmp/*.log. So it is started in pid, mount and network namespaces of
its own, with a /tmp of its own and the machine's settings (/proc/sys/kernel, fs, vm) read-only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vxtool.lab.topos import FOLDER

ALONE = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--net", "--mount-proc", "sh", "-ec"]
SCRIPT = """
mount -t tmpfs tmpfs /tmp
for folder in kernel fs vm; do
    mount --bind /proc/sys/$folder /proc/sys/$folder
    mount -o remount,bind,ro /proc/sys/$folder
done
cat > /tmp/topology.py
ip link set lo up
exec mn --custom /tmp/topology.py --topo "$0" --switch lxbr --controller none --test pingall
"""
TIMEOUT = 60  # seconds; mn waits ten for each ping that is not answered

pings = {
    "one_segment,n=3": 6,
    "one_segment,nodes=a@10.1.0.1/16+b@10.1.0.2/16": 2,
    "two_racks,n=3": 12,
    "leaf_spine": 56,
    "wide_area": 12,
    "single": 0,
}


@pytest.mark.parametrize("text", pings)
def test_mn_builds_our_topologies_and_everybody_answers(text: str) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test makes network namespaces: run it as root", pytrace=False)
    if shutil.which("mn") is None:
        pytest.fail("mn is not installed: apt-get install --no-install-recommends mininet bridge-utils", pytrace=False)
    name = text.partition(",")[0]
    before = {path.name for path in Path("/sys/class/net").iterdir()}
    with open(FOLDER / f"{name}.py", "rb") as file:
        done = subprocess.run([*ALONE, SCRIPT, text], stdin=file, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Caught exception" not in told
    if pings[text]:
        assert re.search(rf"Results: 0% dropped \({pings[text]}/{pings[text]} received\)", told), told
    else:
        assert "No packets sent" in told
    assert {path.name for path in Path("/sys/class/net").iterdir()} == before
