"""The data plane of the article that began it all: two nodes, network web with VNI 4097, endpoints 10.0.1.3 to 10.0.1.8.

Pinged across nodes, captured on the underlay, decoded, and judged by `verify`, which knows nothing of the lab but its Cluster: no error, no warning,
and every frame where the Cluster says it must be.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vxtool
from vxtool.lab.lab import Lab
from vxtool.lab.spec import EndpointWish
from vxtool.model import Cluster

ARTICLE: dict[str, Any] = {}
SUBNETS = {"topology": "two_racks"}  # nodes in two subnets behind a router
PORT = {"data_path_port": 7789}
TWINS = {  # two networks with one subnet
    "networks": ["web=10.0.1.0/24", "db=10.0.1.0/24"],
    "endpoints": [
        EndpointWish(f"{network}.{number}", f"sathish-vm{1 + number % 2}", {network: IPv4Address(f"10.0.1.{3 + number}")})
        for network in ("web", "db")
        for number in range(3)
    ],
}


class _Article:
    """A lab, what was captured at the underlay of all its nodes, and what `verify` says of it."""

    lab: Lab
    cluster: Cluster
    rows: pd.DataFrame
    result: Any


@contextmanager
def _captured(tmp_path: Path, **wanted: Any) -> Iterator[_Article]:
    """What happens in the block is captured; rows and result are there after it."""
    article = _Article()
    path = tmp_path / "underlay.pcapng"
    with Lab(**{"nodes": 2} | wanted) as article.lab:
        article.cluster = article.lab.cluster
        with article.lab.capture(*(node.name for node in article.cluster.nodes), to=path):
            yield article
    port = wanted.get("data_path_port")
    article.rows = vxtool.decode(path, ports=[port] if port else None, checksums=True)
    article.result = vxtool.verify([path], article.cluster, port=port)


def _ping(lab: Lab, source: str, target: str, *options: str) -> int:
    return lab.exec(source, ["ping", "-n", "-c", "2", "-i", "0.1", "-W", "2", *options, target]).returncode


@pytest.mark.parametrize("lab", [ARTICLE, SUBNETS, PORT], ids=["article", "two subnets", "port 7789"])
def test_every_endpoint_reaches_every_other_and_verify_finds_nothing_wrong(tmp_path: Path, lab: dict[str, Any]) -> None:
    with _captured(tmp_path, **lab) as article:
        endpoints = article.cluster.endpoints
        everyone = " ".join(str(endpoint.ip) for endpoint in endpoints)
        for endpoint in endpoints:
            article.lab.exec(endpoint.name, ["sh", "-ec", f"for other in {everyone}; do ping -q -n -c 1 -W 2 $other; done"], check=True)
    node_of = {str(endpoint.ip): endpoint.node for endpoint in endpoints}
    vtep_of = {node.name: str(node.vtep) for node in article.cluster.nodes}
    assert [endpoint.name for endpoint in endpoints] == [f"web.{number}" for number in range(1, 7)]
    assert [str(endpoint.ip) for endpoint in endpoints] == [f"10.0.1.{number}" for number in range(3, 9)]
    assert article.result.failing == ()
    inside = article.rows[article.rows["vni"].notna()]
    pings = inside[inside["inner_icmp_type"] == 8]
    # Every pair on two nodes, seen leaving and arriving; no pair on one node at all.
    pairs = {(source, target) for source, one in node_of.items() for target, two in node_of.items() if one != two}
    assert {tuple(pair) for pair in pings[["inner_ip_src", "inner_ip_dst"]].to_numpy()} == pairs
    assert len(pings) == 2 * len(pairs)
    assert set(inside["vni"]) == {4097}
    assert set(inside["outer_dport"]) == {lab.get("data_path_port", 4789)}
    for _, row in pings.iterrows():
        assert (row["outer_ip_src"], row["outer_ip_dst"]) == (vtep_of[node_of[row["inner_ip_src"]]], vtep_of[node_of[row["inner_ip_dst"]]])


def test_two_networks_with_one_subnet_stay_apart(tmp_path: Path) -> None:
    with _captured(tmp_path, **TWINS) as article:
        for network in ("web", "db"):
            assert _ping(article.lab, f"{network}.0", "10.0.1.4") == 0
    vnis = {str(network.name): network.vnis[0] for network in article.cluster.networks}
    assert article.result.failing == ()
    inside = article.rows[article.rows["inner_icmp_type"] == 8]
    assert set(inside["vni"]) == set(vnis.values()) == {4097, 4098}
    assert set(zip(inside["inner_ip_src"], inside["inner_ip_dst"], strict=True)) == {("10.0.1.3", "10.0.1.4")}


def test_a_full_packet_crosses_whole_and_a_larger_one_does_not_leave(tmp_path: Path) -> None:
    overhead = 28  # IPv4 and ICMP
    with _captured(tmp_path) as article:
        assert _ping(article.lab, "web.1", "10.0.1.4", "-M", "do", "-s", str(1450 - overhead)) == 0
        assert _ping(article.lab, "web.1", "10.0.1.4", "-M", "do", "-s", str(1451 - overhead)) == 1
        assert _ping(article.lab, "web.1", "10.0.1.4", "-M", "dont", "-s", str(3000 - overhead)) == 0
    assert article.result.failing == ()
    inside = article.rows[article.rows["vni"].notna()]
    assert inside["outer_ip_len"].max() == 1500
    # The larger packet crosses in pieces, each whole on the outside.
    assert inside["inner_frag"].notna().sum() == 2 * 2 * 2 * 3  # two pings of three pieces, there and back, at both nodes
