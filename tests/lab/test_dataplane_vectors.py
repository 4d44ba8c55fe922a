"""Names and numbers of the overlay driver: what its real code made of an input, our plan makes of it too."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from tests.lab.overlays import KEYS, endpoint, network, topology
from tests.vectors import cases
from vxtool.errors import UsageError
from vxtool.lab import encryption, names
from vxtool.lab.overlay import Plan
from vxtool.lab.spec import Options
from vxtool.lab.steps import AddVeth, AddVxlan, MoveLink, Step
from vxtool.model import MTU_OPTION, EndpointKind, Network, overlay_mac


def _attached(wanted: Network, options: Options | None = None) -> list[Step]:
    """The steps of the first endpoint of a network."""
    plan = Plan(topology(["vm1"]), options or Options(), keys=KEYS)
    plan.add_network(wanted)
    return plan.attach([endpoint("web.1", "vm1", wanted.name, "10.0.1.3")])


def _mac(case: dict[str, Any]) -> dict[str, Any]:
    return {"mac": str(overlay_mac(IPv4Address(case["ip"])))}


def _devices(case: dict[str, Any]) -> dict[str, Any]:
    vni, identity = case["vni"], case["network_id"]
    moved = [step.new_name for step in _attached(network("web", 4097), Options(like_docker=True)) if isinstance(step, MoveLink)]
    balancer = replace(endpoint("web-endpoint", "vm1", "web", "10.0.1.9"), kind=EndpointKind.LOAD_BALANCER)
    return {
        "vxlan_source_name": names.vxlan_source(vni, identity),
        "bridge_source_name": names.bridge_source(vni, identity),
        "vxlan_name_in_ns": moved[1],
        "bridge_name_in_ns": moved[0],
        "netns": names.overlay_sandbox(identity),
        "lb_netns": names.endpoint_sandbox(balancer, replace(network("web", vni), id=identity)),
    }


def _mtu(case: dict[str, Any]) -> dict[str, Any]:
    option = case.get("driver_option_mtu")
    wanted = replace(network("web", 4097, encrypted=case.get("encrypted", False)), options={MTU_OPTION: str(option)} if option else {})
    steps = _attached(wanted)
    (mtu,) = {step.mtu for step in steps if isinstance(step, AddVxlan) or (isinstance(step, AddVeth) and step.namespace != "vm1")}
    return {"mtu": mtu}


def _port(case: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"accepted": True, "effective": names.data_path_port(case["port"])}
    except UsageError as refused:
        return {"accepted": False, "error": str(refused)}


def _spi(case: dict[str, Any]) -> dict[str, Any]:
    return {"spi": f"0x{encryption.spi(_address(case['src']), _address(case['dst']), case['key_tag']):x}"}


def _address(text: str) -> Any:
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


MADE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "mac_from_ipv4": _mac,
    "device_names": _devices,
    "overlay_mtu": _mtu,
    "data_path_port": _port,
    "esp_spi": _spi,
}


@pytest.mark.parametrize("case", [case for case in cases("dataplane") if case.values[0]["kind"] in MADE])
def test_what_the_driver_makes_of_an_input_the_plan_makes_of_it(case: dict[str, Any]) -> None:
    assert MADE[case["kind"]](case["input"]) == case["expect"]


# -- which frames of a VNI the rules take ----------------------------------------------------------------------------------
# Docker says it to iptables, as a u32 expression (19.03) or as a BPF program (today's); the lab says it to nftables. All three are interpreted here,
# over the same packets.


@pytest.mark.parametrize("case", [case for case in cases("dataplane") if case.values[0]["kind"] == "vni_match_rules"])
@pytest.mark.parametrize("words", [5, 6, 15])  # of the outer IPv4 header: with options it is longer
def test_the_rules_of_a_vni_take_the_frames_that_dockers_rules_take(case: dict[str, Any], words: int) -> None:
    vni, port = case["input"]["vni"], case["input"]["port"]
    body = encryption.rules("vm1", vni, port).body
    assert f"udp dport {port} " in body
    assert int(re.findall(r"meta mark set (0x\w+)", body)[0], 16) == case["expect"]["mark"]
    for other in (vni, vni ^ 1, vni ^ 0x800000, 0, (vni << 8) & 0xFFFFFF):
        packet = (
            bytes([0x40 | words])
            + bytes(words * 4 - 1)
            + struct.pack("!HHHH", 40000, port, 58, 0)
            + struct.pack("!II", 0x08000000, other << 8 | 0xA5)
        )
        expected = other == vni
        assert _u32(case["expect"]["u32_19_03"], packet) is expected
        assert _bpf(case["expect"]["bpf_current"], packet) is expected
        assert _nft(body, packet) is expected


def _u32(expression: str, packet: bytes) -> bool:
    """iptables-extensions(8), u32: `START >> N & MASK @ START & MASK = VALUE`."""
    location, value = expression.split("=")
    base, number = 0, 0
    for part in location.split("@"):
        words = re.findall(r">>|&|0[xX][0-9A-Fa-f]+|\d+", part)
        base += number
        number = int.from_bytes(packet[base + int(words[0], 0) : base + int(words[0], 0) + 4])
        for operator, operand in zip(words[1::2], words[2::2], strict=True):
            number = number >> int(operand, 0) if operator == ">>" else number & int(operand, 0)
    return number == int(value, 0)


def _bpf(program: str, packet: bytes) -> bool:
    """Classic BPF, the few instructions that are used: `LENGTH,CODE JT JF K,..`; xt_bpf sees the packet from its IPv4 header on."""
    a = x = at = 0
    instructions = [tuple(map(int, line.split())) for line in program.split(",")[1:] if line]
    payload = (packet[0] & 15) * 4 + 8  # behind the UDP header
    while True:
        code, true, false, k = instructions[at]
        at += 1
        match code:
            case 0x20:  # ld, from the ancillary data at -0x1000: 52 is the payload's offset
                assert k == (-0x1000 + 52) & 0xFFFFFFFF
                a = payload
            case 0x07:  # tax
                x = a
            case 0x40:  # ld [x + k]
                a = int.from_bytes(packet[x + k : x + k + 4])
            case 0x74:  # rsh
                a >>= k
            case 0x15:  # jeq
                at += true if a == k else false
            case 0x06:  # ret
                return k != 0
            case _:
                raise AssertionError(f"instruction {code:#x}")


def _nft(body: str, packet: bytes) -> bool:
    """nft(8), raw payload: `@th,OFFSET,LENGTH` in bits, from the transport header on. Both chains must ask the same."""
    (asked,) = set(re.findall(r"@th,(\d+),(\d+) (0x\w+)", body))
    offset, length, value = int(asked[0]), int(asked[1]), int(asked[2], 16)
    bits = int.from_bytes(packet[(packet[0] & 15) * 4 :])
    total = (len(packet) - (packet[0] & 15) * 4) * 8
    return bits >> total - offset - length & (1 << length) - 1 == value
