"""Encrypted overlays: what the driver programs, beside what it programmed on a real swarm (keys and SPIs of engine 19.03 and 20.10)."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest

from tests.lab.overlays import KEYS, KernelModel, endpoint, network, topology
from vxtool.errors import UsageError
from vxtool.lab import encryption
from vxtool.lab.encryption import Key, Keyring
from vxtool.lab.overlay import Plan
from vxtool.lab.spec import Options
from vxtool.lab.steps import AddRules, AddXfrmPolicy, AddXfrmState, DeleteXfrmPolicy, DeleteXfrmState, Step, commands

VM1, VM2, VM3 = (IPv4Address(f"192.168.68.{number}") for number in (109, 110, 111))

# `ip xfrm state` of sathish-vm1 (engine 20.10.24): source, destination, SPI, AES key. ip lists the newest first.
REAL = """
110 109 b807f87a 210620c4858a510ab4dd9ddf940911f2
110 109 fcc34e10 771773f2a221a8577947fad918c73601
109 110 c79b2c97 0c8c531c14f772b75078db4420c5a4ce
110 109 215f6d73 0c8c531c14f772b75078db4420c5a4ce
111 109 4a7aafcd 210620c4858a510ab4dd9ddf940911f2
111 109 c47120cb 771773f2a221a8577947fad918c73601
109 111 c69b2b04 0c8c531c14f772b75078db4420c5a4ce
111 109 5923bec8 0c8c531c14f772b75078db4420c5a4ce
"""


def _secret(steps: list[Step]) -> list[Step]:
    """The steps about associations and policies."""
    return [step for step in steps if isinstance(step, AddXfrmState | AddXfrmPolicy | DeleteXfrmState | DeleteXfrmPolicy)]


def _plan(nodes: int, *networks: str, keys: Keyring | None = KEYS, port: int = 4789) -> Plan:
    plan = Plan(topology([f"vm{number + 1}" for number in range(nodes)]), Options(), port, keys=keys)
    for number, name in enumerate(networks):
        plan.add_network(network(name, 4099 + number, f"10.0.{3 + number}.0/24", encrypted=True))
    return plan


def test_associations_are_those_of_a_real_swarm_in_its_order() -> None:
    # The tags (Lamport times of the keys) are not in the dump: they are looked for.
    tags: dict[str, int] = {}
    for line in REAL.split("\n")[1:-1]:
        source, destination, spi, secret = line.split()
        ends = IPv4Address(f"192.168.68.{source}"), IPv4Address(f"192.168.68.{destination}")
        tag = next(tag for tag in range(1 << 16) if encryption.spi(*ends, tag) == int(spi, 16))
        assert tags.setdefault(secret, tag) == tag, "one key has one tag, whoever the two nodes are"
    oldest, current, following = (Key(tag, bytes.fromhex(secret)) for secret, tag in sorted(tags.items(), key=lambda item: item[1]))
    assert (oldest.tag + 1, current.tag + 1) == (current.tag, following.tag)
    keys = Keyring(oldest, current, following)
    states = [step for peer in (VM3, VM2) for step in encryption.protect("vm1", VM1, peer, keys, 4789) if isinstance(step, AddXfrmState)]
    seen = [f"{str(s.source)[-3:]} {str(s.destination)[-3:]} {s.spi:08x} {s.key[:16].hex()}" for s in reversed(states)]
    assert seen == REAL.split("\n")[1:-1]
    assert all(state.key[16:] == state.spi.to_bytes(4) for state in states), "the salt is the SPI"


def test_the_first_peer_costs_three_associations_to_us_one_from_us_and_a_policy() -> None:
    """Numbers of the 19.03 driver's own log (overlay_19.03_encrypted.txt); its keys' tags are 1, 2 and 3 in the driver's order."""
    tags = {tag: encryption.spi(VM2, VM1, tag) for tag in range(1 << 12) if encryption.spi(VM2, VM1, tag) in (0x52B3DBF6, 0x356F2A8F, 0xCCA08001)}
    by_spi = {spi: tag for tag, spi in tags.items()}
    current = Key(by_spi[0x52B3DBF6], b"0123456789abcdef")
    oldest, following = Key(by_spi[0x356F2A8F], b"fedcba9876543210"), Key(by_spi[0xCCA08001], b"a" * 16)
    algorithm = "reqid 13681891 mode transport aead 'rfc4106(gcm(aes))'"
    assert commands(encryption.protect("vm1", VM1, VM2, Keyring(oldest, current, following), 4789)) == [
        f"ip -n vm1 xfrm state add src {source} dst {destination} proto esp spi {spi} {algorithm} 0x{key} 64"
        if key
        else f"ip -n vm1 xfrm policy add src {source}/32 dst {destination}/32 proto udp dport 4789 dir out mark 0xd0c4e3 mask 0xffffffff "
        f"tmpl src {source} dst {destination} proto esp spi {spi} reqid 13681891 mode transport"
        for source, destination, spi, key in (
            (VM2, VM1, "0x52b3dbf6", "3031323334353637383961626364656652b3dbf6"),
            (VM1, VM2, "0xbe5c0dd2", "30313233343536373839616263646566be5c0dd2"),
            (VM1, VM2, "0xbe5c0dd2", ""),
            (VM2, VM1, "0x356f2a8f", "66656463626139383736353433323130356f2a8f"),
            (VM2, VM1, "0xcca08001", "61616161616161616161616161616161cca08001"),
        )
    ]


def test_two_nodes_are_protected_while_both_have_an_encrypted_network() -> None:
    plan = _plan(2, "sec", "safe")
    kernel = KernelModel(["vm1", "vm2"])

    def states() -> dict[str, int]:
        return {node: len(kernel.namespaces[node].states) + len(kernel.namespaces[node].policies) for node in ("vm1", "vm2")}

    kernel.perform(plan.attach([endpoint("a", "vm1", "sec", "10.0.3.3")]))
    assert states() == {"vm1": 0, "vm2": 0}, "nobody to talk to yet"
    kernel.perform(plan.attach([endpoint("b", "vm2", "sec", "10.0.3.4")]))
    assert states() == {"vm1": 5, "vm2": 5}
    second = [plan.attach([endpoint(name, node, "safe", ip)]) for name, node, ip in (("c", "vm1", "10.0.4.3"), ("d", "vm2", "10.0.4.4"))]
    for steps in second:
        assert _secret(steps) == [], "a second network of the same two nodes costs nothing"
        kernel.perform(steps)
    kernel.perform(plan.detach("vm2", "b"))
    assert states() == {"vm1": 5, "vm2": 5}, "the second one still needs them"
    kernel.perform(plan.detach("vm1", "c"))
    assert states() == {"vm1": 0, "vm2": 0}
    for name, node in (("a", "vm1"), ("d", "vm2")):
        kernel.perform(plan.detach(node, name))
    assert all(table[1].startswith("docker_gwbridge") for node in ("vm1", "vm2") for table in kernel.namespaces[node].rules)


def test_the_rules_of_an_encrypted_network_come_with_its_sandbox_not_with_its_first_peer() -> None:
    """CVE-2023-28842: 19.03 accepts clear text for a network as long as it has one endpoint."""
    steps = _plan(1, "sec").attach([endpoint("a", "vm1", "sec", "10.0.3.3")])
    tables = [step for step in steps if isinstance(step, AddRules) and step.table == "encrypted-001003"]
    assert [(table.namespace, table.family) for table in tables] == [("vm1", "ip")]
    assert steps.index(tables[0]) < next(number for number, step in enumerate(steps) if type(step).__name__ == "AddVxlan")


def test_the_policy_has_the_swarms_own_port() -> None:
    """19.03 writes 4789 whatever the port is; such a swarm sends in clear text."""
    plan = _plan(2, "sec", port=7789)
    steps = [step for node, ip in (("vm1", "10.0.3.3"), ("vm2", "10.0.3.4")) for step in plan.attach([endpoint("a", node, "sec", ip)])]
    assert {step.port for step in steps if isinstance(step, AddXfrmPolicy)} == {7789}
    assert all("udp dport 7789 " in step.body for step in steps if isinstance(step, AddRules) and step.table.startswith("encrypted"))


def test_an_encrypted_network_leaves_1424_bytes() -> None:
    plan = _plan(1, "sec")
    plan.attach([endpoint("a", "vm1", "sec", "10.0.3.3")])
    assert plan.cluster.network_by_name["sec"].mtu == 1424


def test_an_encrypted_network_without_keys_is_refused() -> None:
    with pytest.raises(UsageError, match="network sec is encrypted, and the lab has no keys"):
        _plan(1, "sec", keys=None)


def test_a_key_is_128_bits_long() -> None:
    with pytest.raises(ValueError, match="a key of 20 bytes"):
        Key(1, bytes(20))


def test_a_rotation_is_the_drivers_dance() -> None:
    new = Key(13, b"n" * 16)
    steps = encryption.rotate("vm1", VM1, VM2, KEYS, new, 4789)
    told = [(type(step).__name__, step.spi) for step in steps if isinstance(step, AddXfrmState | DeleteXfrmState | AddXfrmPolicy)]
    assert told == [
        ("DeleteXfrmState", encryption.spi(VM2, VM1, 10)),  # -rSA0
        ("AddXfrmState", encryption.spi(VM2, VM1, 13)),  # +rSA3
        ("AddXfrmState", encryption.spi(VM1, VM2, 12)),  # +fSA2
        ("AddXfrmPolicy", encryption.spi(VM1, VM2, 12)),
        ("DeleteXfrmState", encryption.spi(VM1, VM2, 11)),  # -fSA1
    ]
    assert KEYS.rotated(new) == Keyring(KEYS.current, KEYS.next, new)


def test_at_every_moment_of_a_rotation_each_node_understands_the_other() -> None:
    plan = _plan(3, "sec")
    nodes = {"vm1": VM1, "vm2": VM2, "vm3": VM3}
    kernel = KernelModel(nodes)
    for number, node in enumerate(nodes):
        kernel.perform(plan.attach([endpoint("a", node, "sec", f"10.0.3.{number + 3}")]))
    for round_ in range(4):
        for step in plan.rotate(Key(13 + round_, bytes([round_]) * 16)):
            kernel.perform([step])
            for sender, source in nodes.items():
                for (_, destination, _), spi in kernel.namespaces[sender].policies.items():
                    receiver = next(node for node, vtep in nodes.items() if vtep == destination)
                    association = source, destination, spi
                    assert kernel.namespaces[sender].states[association] == kernel.namespaces[receiver].states[association]
    counts = Counter({node: len(kernel.namespaces[node].states) for node in nodes})
    assert counts == {"vm1": 8, "vm2": 8, "vm3": 8}
    for node in nodes:
        kernel.perform(plan.detach(node, "a"))
    assert not any(kernel.namespaces[node].states or kernel.namespaces[node].policies for node in nodes), "taken back under the keys of the day"


def test_a_lab_without_keys_has_none_to_rotate() -> None:
    with pytest.raises(UsageError, match="no keys to rotate"):
        _plan(1, keys=None).rotate(Key(1, bytes(16)))
