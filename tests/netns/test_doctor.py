"""The doctor on the machine of the tests: what it says is what the kernel then does, and nothing of its attempts remains."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from vxtool.lab import doctor
from vxtool.lab.doctor import FEATURES, State

WITNESSES = {
    "vxlan": "ip link add w0 type vxlan id 1 dstport 4789",
    "tap": "ip tuntap add w0 mode tap",
    "netem": "tc qdisc add dev lo root netem delay 1ms",
    "tbf": "tc qdisc add dev lo root tbf rate 1mbit burst 4096 latency 50ms",
    "htb": "tc qdisc add dev lo root htb",
    "nft_nat": "nft add table ip w; nft add chain ip w c '{ type nat hook postrouting priority 0; }'; nft add rule ip w c masquerade",
    "nft_egress": "nft add table netdev w; nft add chain netdev w c '{ type filter hook egress device lo priority 0; }'",
    "nft_bridge": "nft add table bridge w; nft add chain bridge w c '{ type filter hook forward priority 0; }'",
    "br_netfilter": "test -e /proc/sys/net/bridge",
}
"""The same asked in another way: the commands a person would type."""


def test_what_the_doctor_finds_is_what_a_shell_finds():
    findings = doctor.examine()
    for feature, script in WITNESSES.items():
        done = subprocess.run(["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True, check=False)
        assert findings.has(feature) == (done.returncode == 0), f"{feature}: {findings.by_id[feature]}, a shell: {done.stderr}"


def test_every_feature_of_the_kernel_is_decided_with_root():
    untried = {finding.feature.id: finding.detail for finding in doctor.examine() if finding.feature.root and finding.state is State.UNTRIED}
    assert untried == {}


def test_the_machine_is_as_it_was():
    def seen() -> tuple[object, ...]:
        groups = (
            [path for folder in Path("/sys/fs/cgroup").iterdir() for path in folder.glob("vxtool-doctor-*")]
            if Path("/sys/fs/cgroup").is_dir()
            else []
        )
        return (
            Path("/proc/self/ns/net").stat().st_ino,
            Path("/proc/self/ns/mnt").stat().st_ino,
            Path("/proc/net/dev").read_text().count("\n"),
            Path("/proc/self/mounts").read_text(),
            len(os.listdir("/proc/self/fd")),
            groups,
        )

    before = seen()
    doctor.examine.cache_clear()
    findings = doctor.examine()
    assert len(list(findings)) == len(FEATURES)
    assert seen() == before
