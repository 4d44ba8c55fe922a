"""The same mesh with IPVS, which the machine at hand may lack: every test of test_mesh.py, in the emulated machine (tests/vm)."""

from __future__ import annotations

import pytest

from tests.netns.swarms import Town
from tests.netns.test_mesh import *  # noqa: F403
from tests.netns.test_mesh import (
    NODES,
    PortConfig,
    inside,
    nodes_of,
    serving,
    shared,  # noqa: F401  # the fixture
)
from vxtool.lab import ipvs
from vxtool.lab.doctor import examine

pytestmark = pytest.mark.vm


def test_ipvs_is_in_use_and_its_tables_are_those_of_a_real_engine(shared: Town) -> None:  # noqa: F811
    assert ipvs.works()
    assert examine().by_id["balancing"].detail == "IPVS"
    with serving(shared, "even", PortConfig(80, 8100), networks=("web",)) as view:
        listed = inside(shared, f"{NODES[0]}:ingress_sbox", "ipvsadm -Ln")
        services = [line.split() for line in listed.splitlines() if line.startswith("FWM")]
        assert [words[2] for words in services] == ["rr"]
        servers = [line.split() for line in listed.splitlines() if line.startswith("  -> ") and "Forward" not in line]
        assert sorted(words[1] for words in servers) == sorted(f"{address}:0" for address in shared.addresses(view, "even", "ingress"))
        assert {(words[2], words[3]) for words in servers} == {("Masq", "1")}
        for key, value in (("conntrack", "1"), ("expire_nodest_conn", "1"), ("conn_reuse_mode", "0")):
            assert inside(shared, f"{NODES[0]}:ingress_sbox", f"sysctl -n net.ipv4.vs.{key}").strip() == value
        assert nodes_of(view)
