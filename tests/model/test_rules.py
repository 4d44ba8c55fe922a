"""What Docker derives from what it knows: MAC addresses, MTUs, owners of endpoint names."""

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxtool.model import EndpointKind, Mac, from_halves, halves, mac_from_ipv4, overlay_mtu, owner_of

TASK = "nauu0ml3kuhpj6qbnm54jnjt9"
NODE = "ysngy5walkhqypct8cixcp9bd"


@pytest.mark.parametrize(
    ("ip", "mac"), [("10.0.1.3", "02:42:0a:00:01:03"), ("10.0.0.17", "02:42:0a:00:00:11"), ("255.255.255.255", "02:42:ff:ff:ff:ff")]
)
def test_an_endpoint_s_mac_is_02_42_and_its_address(ip: str, mac: str) -> None:
    assert str(mac_from_ipv4(IPv4Address(ip))) == mac


@pytest.mark.parametrize(("encrypted", "option", "mtu"), [(False, None, 1450), (True, None, 1424), (False, 9000, 8950), (True, 1400, 1324)])
def test_the_mtu_is_the_underlay_s_less_the_overhead(encrypted: bool, option: int | None, mtu: int) -> None:
    assert overlay_mtu(encrypted, option) == mtu


@pytest.mark.parametrize(
    ("name", "kind", "service", "slot", "node", "task"),
    [
        (f"web.2.{TASK}", EndpointKind.TASK, "web", 2, None, TASK),
        (f"sec.{NODE}.{TASK}", EndpointKind.TASK, "sec", None, NODE, TASK),
        ("web-endpoint", EndpointKind.LOAD_BALANCER, None, None, None, None),
        ("other-endpoint", EndpointKind.CONTAINER, None, None, None, None),
        ("curl", EndpointKind.CONTAINER, None, None, None, None),
        ("web.2", EndpointKind.CONTAINER, None, None, None, None),
        (f"my-app_1.0.{TASK}", EndpointKind.CONTAINER, None, None, None, None),  # slots begin at 1
    ],
)
def test_an_endpoint_s_name_tells_its_owner(name: str, kind: EndpointKind, service: object, slot: object, node: object, task: object) -> None:
    owner = owner_of(name, "web")
    assert (owner.kind, owner.service, owner.slot, owner.node_id, owner.task) == (kind, service, slot, node, task)


@given(st.ip_addresses())
def test_the_halves_of_an_address_are_the_address(address: object) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    assert from_halves(*halves(ip_address(str(address)))) == (mapped or address)


@given(st.integers(0, (1 << 48) - 1))
def test_a_mac_written_down_is_the_same_mac(value: int) -> None:
    assert Mac.parse(str(Mac(value))) == Mac(value) == Mac.parse(str(Mac(value)).upper().replace(":", "-"))


@pytest.mark.parametrize(
    "text", ["", "02:42:0a:00:01", "02:42:0a:00:01:03:04", "02:42-0a:00:01:03", "0242.0a00.0103", "zz:42:0a:00:01:03", "2:42:a:0:1:3"]
)
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a MAC"):
        Mac.parse(text)
