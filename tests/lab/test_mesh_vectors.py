"""The rules of the routing mesh, against Docker's: facts from libnetwork's source (tests/vectors/mesh.json) and what a real engine's kernels held.

Docker writes to iptables and IPVS, the lab to nftables. A rule of iptables is translated here, word by word, to what nft(8) calls the same; then
each of Docker's rules must be one of ours, in the same order.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from tests.vectors import cases
from vxtool.lab.ingress import Backend, Balancer, Driver, Ipvs, Mesh, Nftables, Port, expose
from vxtool.lab.steps import AddAddress, AddRules, ReplaceRules, SetBackends, SetSysctl, Step

NODE, SBOX = "vm1", "vm1:ingress_sbox"
DRIVERS: tuple[type[Driver], ...] = (Nftables, Ipvs)

# An option of iptables, and how nft says it. The three below have no value of their own.
WORDS = {
    "-d": "ip daddr {}",
    "-s": "ip saddr {}",
    "-o": 'oifname "{}"',
    "--dport": "{proto} dport {}",
    "--sport": "{proto} sport {}",
    "--ctstate": "ct state {}",
    "--state": "ct state {}",
    "--dst-type": "fib daddr type {}",
    "--src-type": "fib saddr type {}",
    "--set-mark": "meta mark set {}",
    "--set-xmark": "meta mark set {}",
    "--to-destination": "dnat to {}",
    "--to-source": "snat to {}",
    "--to-port": "redirect to :{}",
    "--to-ports": "redirect to :{}",
}
VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "RETURN": "return", "MASQUERADE": "masquerade"}
BALANCED = {"nftables": "ct status dnat", "IPVS": "meta mark != 0"}
"""What stands for `-m ipvs`: that a backend was chosen."""


def nft(rule: str, driver: str = "nftables") -> frozenset[str]:
    """The conditions and the verdict of a rule of iptables', as nft says them."""
    words = iter(shlex.split(rule))
    said: set[str] = set()
    proto, ported = "", False
    for word in words:
        if word in ("-m", "-A"):
            next(words)
        elif word == "-p":
            proto = next(words)
        elif word == "--ipvs":
            said.add(BALANCED[driver])
        elif word == "-j":
            target = next(words)
            if target in VERDICTS:
                said.add(VERDICTS[target])
            elif target not in ("DNAT", "SNAT", "MARK", "REDIRECT"):
                said.add(f"jump {target}")
        else:
            ported |= word in ("--dport", "--sport")
            said.add(WORDS[word].format(_value(next(words)), proto=proto))
    return frozenset(said if ported or not proto else {*said, f"meta l4proto {proto}"})


def _value(text: str) -> str:
    text = text.removesuffix("/0xffffffff").removesuffix("/32")
    if text.startswith("0x"):
        return str(int(text, 16))
    return ",".join(sorted(text.lower().split(","))) if text.isupper() or "," in text else text


def ours(rule: str) -> list[frozenset[str]]:
    """The conditions and the verdict of a rule of ours; one for each member of a set of protocols, which iptables must say one by one."""
    for protocols in re.findall(r"meta l4proto \{ (.*?) \}", rule):
        return [one for proto in protocols.split(", ") for one in ours(re.sub(r"\{ .*? \}", proto, rule, count=1))]
    parts = re.findall(
        r"ip [sd]addr (?:\{ \S+ \}|\S+)|[io]ifname \S+|\w+ [sd]port \d+|ct state \S+|ct status dnat|meta l4proto \w+|fib [sd]addr type \w+"
        r"|meta mark (?:set|!=) \d+|(?:dnat|snat|redirect) to \S+|jump \S+|accept|drop|return|masquerade",
        rule,
    )
    assert " ".join(parts).split() == rule.split(), f"{rule} is not understood whole: {parts}"
    return [
        frozenset(re.sub(r"ct state (\S+)", lambda match: f"ct state {_value(match[1])}", part.replace("{ ", "").replace(" }", "")) for part in parts)
    ]


def tables(steps: list[Step]) -> dict[tuple[str, str], list[str]]:
    """(namespace, chain) -> its rules, after the steps."""
    found: dict[tuple[str, str], list[str]] = {}
    for step in steps:
        if isinstance(step, AddRules):
            chains = dict(re.findall(r"chain (\S+) \{ (.*?;) \}(?=;)", step.body))
        elif isinstance(step, ReplaceRules):
            chains = dict(step.chains)
        else:
            continue
        for name, body in chains.items():
            rules = [rule for rule in re.split(r"; ?", body) if rule and not rule.startswith("type ")]
            found[step.namespace, name] = rules
    return found


def said(rules: list[str]) -> list[frozenset[str]]:
    return [one for rule in rules for one in ours(rule)]


def assert_in_order(wanted: list[frozenset[str]], rules: list[str]) -> None:
    """Each of the rules wanted is there, and none comes before one that precedes it."""
    there = said(rules)
    places = [there.index(one) if one in there else pytest.fail(f"{sorted(one)} is not among {rules}") for one in wanted]
    assert places == sorted(places)


def mesh(driver: type[Driver], vip: str, lb: str, subnet: str, way_in: str, ports: tuple[Port, ...], backends: tuple[str, ...]) -> list[Step]:
    made = Mesh(NODE, driver())
    made.place("net", Balancer(SBOX, IPv4Address(lb), (IPv4Network(subnet),), IPv4Address(way_in)))
    for address in backends:
        made.set("net", address, Backend("svc", IPv4Address(address), IPv4Address(vip), ports))
    return made.steps()


# -- from libnetwork's source ------------------------------------------------------------------------------------------------


def _host_rules(case: dict[str, Any], expect: dict[str, Any], driver: type[Driver]) -> None:
    port = Port(case["published"], case["published"], case["protocol"])
    made = tables(mesh(driver, "10.0.0.5", "10.0.0.2", "10.0.0.0/24", case["gateway_ip"], (port,), ("10.0.0.6",)))
    assert said(made[NODE, "DOCKER-INGRESS"]) == [nft(expect["nat DOCKER-INGRESS (inserted at top)"]), frozenset({"return"})]
    # Inserted one after the other: the last comes first.
    inserted = [nft(rule) for rule in reversed(expect["filter DOCKER-INGRESS (inserted, in this order)"])]
    assert said(made[NODE, "DOCKER-INGRESS-filter"]) == [*inserted, frozenset({"return"})]
    assert nft(expect["current_filter_first_rule"]) in inserted


def _ingress_sbox_rules(case: dict[str, Any], expect: dict[str, Any], driver: type[Driver]) -> None:
    port = Port(80, case["published"], case["protocol"])
    backends = ("10.0.0.6", "10.0.0.7")
    steps = mesh(driver, case["vip"], case["lb_ip"], case["subnet"], "172.18.0.2", (port,), backends)
    made = tables(steps)
    before, at = nft(expect["mangle PREROUTING"]), nft(expect["mangle INPUT"])
    if driver is Ipvs:
        assert (said(made[SBOX, "marking"]), said(made[SBOX, "marking-input"])) == ([before], [at])
        assert expect["ipvs"] == "FWM {fwmark} rr; real servers Masq weight 1".format(**case)
        assert [step for step in steps if isinstance(step, SetBackends)] == [
            SetBackends(SBOX, case["fwmark"], tuple((IPv4Address(one), 1) for one in backends), None)
        ]
    else:
        assert said(made[SBOX, "marking"]) == [before, at]
        assert f"meta mark vmap {{ {case['fwmark']} : jump mark-{case['fwmark']} }}" in made[SBOX, "balancing"]
    assert said(made[SBOX, "leaving"]) == [nft(expect["nat POSTROUTING (once)"], driver.name)]
    assert [step.interface.with_prefixlen for step in steps if isinstance(step, AddAddress)] == [f"{case['vip']}/32"]


def _container_rules(case: dict[str, Any], expect: dict[str, Any], driver: type[Driver]) -> None:
    made = tables(expose("vm1:web.1", IPv4Address(case["ingress_ip"]), [Port(case["target"], case["published"], case["protocol"])]))
    assert said(made["vm1:web.1", "prerouting"]) == [nft(expect["nat PREROUTING"])]
    for chain, hook in (("input", "INPUT"), ("output", "OUTPUT")):
        rules = said(made["vm1:web.1", chain])
        assert rules[0] == nft(expect[f"filter {hook} (inserted)"])
        assert set(rules[1:]) == {nft(rule) for rule in expect[f"filter {hook} (appended)"]}


def _rr_balance(case: dict[str, Any], expect: dict[str, Any], driver: type[Driver]) -> None:
    backends = tuple(f"10.0.0.{6 + number}" for number in range(case["backends"]))
    steps = mesh(driver, "10.0.0.5", "10.0.0.2", "10.0.0.0/24", "172.18.0.2", (Port(80, 80, "tcp"),), backends)
    counts = Counter(_turn(steps, number) for number in range(case["new_connections_on_one_node"]))
    assert sorted(counts.values(), reverse=True) == expect["sorted_counts"]


def _turn(steps: list[Step], number: int) -> str:
    """Whom the connection of this number goes to: as numgen counts (nft_numgen.c), and as IPVS's rr goes round its list, weights not 0."""
    told = [step for step in steps if isinstance(step, SetBackends)]
    if told:
        up = [address for address, weight in told[0].backends or () if weight]
        return str(up[number % len(up)])
    (rule,) = tables(steps)[SBOX, "mark-256"]
    match = re.fullmatch(r"meta l4proto \{ tcp, udp, sctp \} dnat to numgen inc mod (\d+) map \{ (.*) \}", rule)
    assert match is not None
    return dict(entry.split(" : ") for entry in match[2].split(", "))[str(number % int(match[1]))]


def _fwmark_counter(case: dict[str, Any], expect: dict[str, Any], driver: type[Driver]) -> None:
    made = Mesh(NODE, driver())
    count = case["first_load_balancers_created_on_a_node"]
    for number in range(count):
        network = f"net{number}"
        made.place(network, Balancer(f"vm1:lb_{number}", IPv4Address("10.0.1.9"), (IPv4Network("10.0.1.0/24"),)))
        made.set(network, "web.1", Backend("svc", IPv4Address("10.0.1.3"), IPv4Address("10.0.1.2")))
    rules = tables(made.steps())
    marks = [
        int(rule.split()[-1])
        for number in range(count)
        for chain in ("marking", "marking-input")
        for rule in rules.get((f"vm1:lb_{number}", chain), ())
    ]
    assert marks == expect["fwmarks"]


KINDS: Mapping[str, Callable[[dict[str, Any], dict[str, Any], type[Driver]], None]] = {
    "host_rules": _host_rules,
    "ingress_sbox_rules": _ingress_sbox_rules,
    "container_rules": _container_rules,
    "rr_balance": _rr_balance,
    "fwmark_counter": _fwmark_counter,
}


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
@pytest.mark.parametrize("case", [case for case in cases("mesh") if case.values[0]["kind"] in KINDS])
def test_the_mesh_is_programmed_as_docker_programs_it(case: dict[str, Any], driver: type[Driver]) -> None:
    KINDS[case["kind"]](case["input"], case["expect"], driver)


# -- from a real engine's kernels ------------------------------------------------------------------------------------------------
# Docker Engine 20.10.24, `docker service create --replicas 6 --network web --publish 80:80 httpd` on three nodes: iptables-save and ipvsadm of the
# first, but for the rules of the embedded resolver, of users and of other bridges.

ENGINE = {
    "host nat": """
        -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
        -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER-INGRESS
        -A POSTROUTING -o docker_gwbridge -m addrtype --src-type LOCAL -j MASQUERADE
        -A DOCKER-INGRESS -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.18.0.2:80
        -A DOCKER-INGRESS -j RETURN""",
    "host filter": """
        -A DOCKER-INGRESS -p tcp -m tcp --dport 80 -j ACCEPT
        -A DOCKER-INGRESS -p tcp -m state --state RELATED,ESTABLISHED -m tcp --sport 80 -j ACCEPT
        -A DOCKER-INGRESS -j RETURN""",
    "ingress_sbox mangle": """
        -A PREROUTING -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x100/0xffffffff
        -A INPUT -d 10.0.0.5/32 -j MARK --set-xmark 0x100/0xffffffff""",
    "ingress_sbox nat": "-A POSTROUTING -d 10.0.0.0/24 -m ipvs --ipvs -j SNAT --to-source 10.0.0.2",
    "lb mangle": "-A INPUT -d 10.0.1.2/32 -j MARK --set-xmark 0x101/0xffffffff",
    "lb nat": "-A POSTROUTING -d 10.0.1.0/24 -m ipvs --ipvs -j SNAT --to-source 10.0.1.10",
    "task nat": "-A PREROUTING -d 10.0.0.6/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 80",
    "task filter": """
        -A INPUT -d 10.0.0.6/32 -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT
        -A INPUT -d 10.0.0.6/32 -p sctp -j DROP
        -A INPUT -d 10.0.0.6/32 -p udp -j DROP
        -A INPUT -d 10.0.0.6/32 -p tcp -j DROP
        -A OUTPUT -s 10.0.0.6/32 -p tcp -m tcp --sport 80 -m conntrack --ctstate ESTABLISHED -j ACCEPT
        -A OUTPUT -s 10.0.0.6/32 -p sctp -j DROP
        -A OUTPUT -s 10.0.0.6/32 -p udp -j DROP
        -A OUTPUT -s 10.0.0.6/32 -p tcp -j DROP""",
}
PLACES = {
    ("host nat", "PREROUTING"): (NODE, "prerouting"),
    ("host nat", "OUTPUT"): (NODE, "output"),
    ("host nat", "POSTROUTING"): (NODE, "postrouting"),
    ("host nat", "DOCKER-INGRESS"): (NODE, "DOCKER-INGRESS"),
    ("host filter", "DOCKER-INGRESS"): (NODE, "DOCKER-INGRESS-filter"),
    ("ingress_sbox mangle", "PREROUTING"): (SBOX, "marking"),
    ("ingress_sbox mangle", "INPUT"): (SBOX, "marking-input"),
    ("ingress_sbox nat", "POSTROUTING"): (SBOX, "leaving"),
    ("lb mangle", "INPUT"): ("vm1:lb_jnz278zgn", "marking-input"),
    ("lb nat", "POSTROUTING"): ("vm1:lb_jnz278zgn", "leaving"),
    ("task nat", "PREROUTING"): ("vm1:web.1", "prerouting"),
    ("task filter", "INPUT"): ("vm1:web.1", "input"),
    ("task filter", "OUTPUT"): ("vm1:web.1", "output"),
}
"""(where, chain of iptables) -> (namespace, chain of the lab)."""


def _engine(driver: type[Driver]) -> list[Step]:
    made = Mesh(NODE, driver())
    port = Port(80, 80, "tcp")
    made.place("ingress", Balancer(SBOX, IPv4Address("10.0.0.2"), (IPv4Network("10.0.0.0/24"),), IPv4Address("172.18.0.2")))
    made.place("web", Balancer("vm1:lb_jnz278zgn", IPv4Address("10.0.1.10"), (IPv4Network("10.0.1.0/24"),)))
    for number in range(6):
        made.set("ingress", f"web.{number}", Backend("svc", IPv4Address(f"10.0.0.{6 + number}"), IPv4Address("10.0.0.5"), (port,)))
        made.set("web", f"web.{number}", Backend("svc", IPv4Address(f"10.0.1.{3 + number}"), IPv4Address("10.0.1.2")))
    return [*made.steps(), *expose("vm1:web.1", IPv4Address("10.0.0.6"), [port])]


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
@pytest.mark.parametrize("where", ENGINE)
def test_each_rule_of_a_real_engine_is_one_of_the_labs(where: str, driver: type[Driver]) -> None:
    made = tables(_engine(driver))
    wanted: dict[str, list[frozenset[str]]] = {}
    for line in ENGINE[where].strip().splitlines():
        _, chain, rule = line.strip().split(" ", 2)
        wanted.setdefault(chain, []).append(nft(rule, driver.name))
    for chain, rules in wanted.items():
        place = PLACES[where, chain]
        if driver is Nftables and place[1] == "marking-input":
            place = place[0], "marking"  # where NAT takes place
        if chain == "DOCKER-INGRESS":
            assert said(made[place]) == rules
        elif where == "task filter":
            assert set(said(made[place])) == set(rules)
        else:
            assert_in_order(rules, made[place])


def test_ipvs_is_told_what_a_real_engine_told_it() -> None:
    """ipvsadm -Ln: FWM 256 rr and FWM 257 rr, six real servers each, Masq, weight 1."""
    told = {step.mark: (step.namespace, step.backends) for step in _engine(Ipvs) if isinstance(step, SetBackends)}
    assert told == {
        256: (SBOX, tuple((IPv4Address(f"10.0.0.{number}"), 1) for number in range(6, 12))),
        257: ("vm1:lb_jnz278zgn", tuple((IPv4Address(f"10.0.1.{number}"), 1) for number in range(3, 9))),
    }
    settings = {step.key: step.value for step in _engine(Ipvs) if isinstance(step, SetSysctl)}
    assert settings["net.ipv4.vs.conntrack"] == "1"
    assert settings["net.ipv4.vs.expire_nodest_conn"] == "1"
