"""Pools, addresses and VNIs come out as the real allocators of both engines hand them out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors import cases
from vxtool.errors import UsageError
from vxtool.model import Engine
from vxtool.swarm.allocator import VNI_OPTION
from vxtool.swarm.ipam import Addresses, DefaultPool, Scope, Vnis
from vxtool.swarm.objects import NetworkSpec
from vxtool.swarm.specifications import check_network

ENGINES = pytest.mark.parametrize("engine", list(Engine), ids=str)


def _expected(facts: dict[str, Any], engine: Engine, name: str = "expect") -> Any:
    return facts.get(f"{name}_19_03", facts.get(name)) if engine is Engine.V19_03 else facts.get(name)


def _done(addresses: Addresses, op: dict[str, Any], taken: dict[str, tuple[str, IPv4Address]]) -> dict[str, str]:
    """One operation of a vector, and what came out in the vector's words."""
    try:
        if op["op"] == "pool":
            return {"pool": str(addresses.pool(op["id"], op.get("subnet", ""), op.get("range", "")))}
        if op["op"] == "addr":
            wanted = IPv4Address(op["addr"]) if "addr" in op else None
            given_ = addresses.address(op["pool"], wanted, serial=op.get("serial", False))
            taken[op.get("id", "")] = (op["pool"], given_.ip)
            return {"addr": str(given_)}
        if op["op"] == "free":
            if op["id"] in taken:  # else it was not given
                addresses.free(*taken[op["id"]])
        else:
            addresses.free_pool(op["id"])
    except UsageError as error:
        return {"error": str(error)}
    return {}


@ENGINES
@pytest.mark.parametrize("case", cases("ipam"))
def test_pools_and_addresses_are_those_of_the_real_allocator(case: dict[str, Any], engine: Engine) -> None:
    pools = [DefaultPool(IPv4Network(pool["base"]), pool["size"]) for pool in case.get("default_addr_pool", [])]
    refusal = _expected(case, engine, "expect_setup_error")
    if refusal is not None:
        with pytest.raises(UsageError) as refused:
            Addresses(Scope(case["space"]), pools, engine)
        assert str(refused.value) == refusal
        return
    addresses = Addresses(Scope(case["space"]), pools or None, engine)
    taken: dict[str, tuple[str, IPv4Address]] = {}
    for op in case["ops"]:
        assert _done(addresses, op["op"], taken) == _expected(op, engine), op["op"]


@pytest.mark.parametrize("case", cases("ipam", "vni_cases"))
def test_vnis_are_those_of_the_real_overlay_manager(case: dict[str, Any]) -> None:
    vnis = Vnis()
    taken: dict[str, tuple[int, ...]] = {}
    for op in case["ops"]:
        asked = op["op"]
        if asked["op"] == "free":
            vnis.free(taken.pop(asked["id"], ()))
            continue
        try:
            wanted = asked.get("vnis") or ""
            check_network(NetworkSpec("n", options={VNI_OPTION: wanted}))
            taken[asked["id"]] = vnis.take(asked.get("subnets", 1), [int(word) for word in wanted.split(",") if word])
            came = {"vnis": ",".join(map(str, taken[asked["id"]]))}
        except UsageError:
            assert "error" in op["expect"], asked
            continue
        assert came == op["expect"], asked


@ENGINES
@given(st.data())
def test_no_address_is_given_twice_whatever_is_taken_and_freed(engine: Engine, data: st.DataObject) -> None:
    addresses = Addresses(engine=engine)
    addresses.pool("p", "10.9.0.0/28")
    held: list[IPv4Address] = []
    for _ in range(data.draw(st.integers(1, 60))):
        freed = data.draw(st.integers(0, 28))
        if freed < len(held):
            addresses.free("p", held.pop(freed))
            continue
        try:
            held.append(addresses.address("p", serial=data.draw(st.booleans())).ip)
        except UsageError:
            assert len(held) == 14
    assert len(set(held)) == len(held)
    assert all(address in IPv4Network("10.9.0.0/28") and address.packed[3] not in (0, 15) for address in held)


def test_a_vni_that_is_in_use_is_refused_and_nothing_is_taken() -> None:
    vnis = Vnis()
    assert vnis.take(1, [4097]) == (4097,)
    with pytest.raises(UsageError, match="4097 is in use"):
        vnis.take(2, [5000, 4097])
    assert vnis.take(1, [5000]) == (5000,)
    assert vnis.take(3) == (4096, 4098, 4099)
