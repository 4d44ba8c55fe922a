"""The rules of an encrypted network, in the kernel: what arrives for it in clear text is dropped, other networks' frames are not."""

from __future__ import annotations

import socket
from ipaddress import IPv4Interface
from typing import Any

from vxtool.lab.encryption import rules
from vxtool.lab.namespaces import NETNS, inside
from vxtool.lab.steps import AddAddress, AddNamespace, AddVeth, SetUp, Step

PORT = 7789


def _frame(vni: int) -> bytes:
    return b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0" + bytes(60)


def test_clear_text_of_an_encrypted_network_is_dropped_where_it_arrives(world: Any) -> None:
    ends: list[Step] = [AddNamespace("a"), AddNamespace("b"), AddVeth("a", "eth0", "b", "eth0")]
    for number, node in enumerate("ab", 1):
        ends += [AddAddress(node, "eth0", IPv4Interface(f"192.168.68.{number}/24")), SetUp(node, "eth0")]
    world.kernel.perform([*ends, rules("b", 4097, PORT)])
    with inside(NETNS / "b"):
        receiving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(NETNS / "a"):
        sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiving, sending:
        receiving.bind(("192.168.68.2", PORT))
        receiving.settimeout(5)
        for vni in (4097, 4098, 4097, 4099):
            sending.sendto(_frame(vni), ("192.168.68.2", PORT))
        assert [int.from_bytes(receiving.recv(100)[4:7], "big") for _ in range(2)] == [4098, 4099]
