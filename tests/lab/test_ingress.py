"""The mesh of one node: what its balancers are told when backends come, are disabled and go."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vxtool.errors import VxtoolError
from vxtool.lab.ingress import FIRST_MARK, Backend, Balancer, Driver, Ipvs, Mesh, Nftables, Port, expose
from vxtool.lab.steps import AddAddress, AddRules, DeleteAddress, ForgetFlows, ReplaceRules, SetBackends, SetSysctl, Step, inverses

NODE, SBOX, LB = "vm1", "vm1:ingress_sbox", "vm1:lb_web"
WEB = Port(80, 8080, "tcp")
INGRESS_VIP, WEB_VIP = IPv4Address("10.0.0.5"), IPv4Address("10.0.1.2")
both_drivers = pytest.mark.parametrize("driver", [Nftables, Ipvs], ids=lambda driver: driver.name)


@dataclass
class Kernel:
    """What stands in the namespaces after steps, as far as the mesh's steps reach. It refuses what a kernel refuses."""

    tables: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    addresses: set[tuple[str, IPv4Address]] = field(default_factory=set)
    services: dict[tuple[str, int], dict[IPv4Address, int]] = field(default_factory=dict)
    forgotten: list[ForgetFlows] = field(default_factory=list)

    def perform(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case AddRules():
                    assert (step.namespace, step.table) not in self.tables
                    chains = re.findall(r"chain (\S+) \{ (.*?;) \}(?=;)", step.body)
                    self.tables[step.namespace, step.table] = dict(chains)
                case ReplaceRules():
                    table = self.tables[step.namespace, step.table]
                    for name, body in step.before:
                        assert table.pop(name) == body
                    assert not table.keys() & dict(step.chains).keys()
                    table |= dict(step.chains)
                case AddAddress():
                    assert (step.namespace, step.interface.ip) not in self.addresses
                    self.addresses.add((step.namespace, step.interface.ip))
                case DeleteAddress():
                    self.addresses.remove((step.namespace, step.interface.ip))
                case SetBackends():
                    assert self.services.pop((step.namespace, step.mark), None) == (None if step.before is None else dict(step.before))
                    if step.backends is not None:
                        self.services[step.namespace, step.mark] = dict(step.backends)
                case ForgetFlows():
                    self.forgotten.append(step)
                case SetSysctl():
                    pass
                case _:
                    del self.tables[step.namespace, step.table]  # type: ignore[union-attr]

    def shown(self) -> tuple[Any, ...]:
        tables = {key: dict(chains) for key, chains in self.tables.items()}
        return tables, set(self.addresses), {key: dict(value) for key, value in self.services.items()}

    def turns(self, namespace: str, mark: int) -> list[str]:
        """Whom new connections with this mark go to, one after the other."""
        if (namespace, mark) in self.services:
            return [str(address) for address, weight in self.services[namespace, mark].items() if weight]
        body = self.tables[namespace, "DOCKER-BALANCE"].get(f"mark-{mark}", "")
        return re.findall(r"\d+ : ([\d.]+)", body)


@dataclass
class Place:
    mesh: Mesh
    kernel: Kernel = field(default_factory=Kernel)

    def settle(self) -> list[Step]:
        steps = self.mesh.steps()
        self.kernel.perform(steps)
        self.mesh.done()
        return steps


def place(driver: type[Driver] = Nftables) -> Place:
    made = Place(Mesh(NODE, driver()))
    made.mesh.place("ingress", Balancer(SBOX, IPv4Address("10.0.0.2"), (IPv4Network("10.0.0.0/24"),), IPv4Address("172.18.0.2")))
    made.mesh.place("web", Balancer(LB, IPv4Address("10.0.1.9"), (IPv4Network("10.0.1.0/24"),)))
    made.settle()
    return made


def backend(number: int, service: str = "svc", vip: IPv4Address | None = INGRESS_VIP, ports: tuple[Port, ...] = (WEB,), **how: Any) -> Backend:
    return Backend(service, IPv4Address(f"10.0.0.{number}"), vip, ports, **how)


# -- coming, being disabled, going -------------------------------------------------------------------------------------------------


@both_drivers
def test_backends_that_come_together_are_one_change_of_each_table(driver: type[Driver]) -> None:
    made = place(driver)
    for number in range(6, 206):
        made.mesh.set("ingress", f"web.{number}", backend(number))
    kinds = Counter(type(step).__name__ for step in made.settle())
    assert kinds == {"AddAddress": 1, "ReplaceRules": 2} | ({"SetBackends": 1} if driver is Ipvs else {})
    assert made.kernel.turns(SBOX, 256) == [f"10.0.0.{number}" for number in range(6, 206)]
    assert made.settle() == []


@both_drivers
def test_a_disabled_backend_begins_nothing_and_keeps_what_it_has_until_it_goes(driver: type[Driver]) -> None:
    made = place(driver)
    for number in (6, 7):
        made.mesh.set("ingress", f"web.{number}", backend(number))
    made.settle()
    made.mesh.set("ingress", "web.6", backend(6, disabled=True))
    made.settle()
    assert made.kernel.turns(SBOX, 256) == ["10.0.0.7"]
    assert made.kernel.forgotten == []
    made.mesh.drop("ingress", "web.6")
    made.settle()
    assert made.kernel.forgotten == [ForgetFlows(SBOX, (IPv4Address("10.0.0.6"),))]


@both_drivers
def test_a_service_with_disabled_backends_alone_has_its_address_and_the_last_that_goes_takes_everything_away(driver: type[Driver]) -> None:
    made = place(driver)
    empty = made.kernel.shown()
    made.mesh.set("ingress", "web.6", backend(6, disabled=True))
    made.settle()
    assert made.kernel.turns(SBOX, 256) == []
    assert (SBOX, INGRESS_VIP) in made.kernel.addresses
    assert "tcp dport 8080 dnat to 172.18.0.2:8080" in made.kernel.tables[NODE, "DOCKER-INGRESS"]["DOCKER-INGRESS"]
    made.mesh.drop("ingress", "web.6")
    made.settle()
    assert made.kernel.shown() == empty


def test_the_turns_of_a_service_are_not_disturbed_by_changes_of_another() -> None:
    made = place()
    made.mesh.set("ingress", "a.6", backend(6, "a"))
    made.mesh.set("ingress", "b.7", backend(7, "b", IPv4Address("10.0.0.4"), (Port(80, 8081, "tcp"),)))
    made.settle()
    made.mesh.set("ingress", "b.8", backend(8, "b", IPv4Address("10.0.0.4"), (Port(80, 8081, "tcp"),)))
    (change,) = made.settle()
    assert isinstance(change, ReplaceRules)
    assert [name for name, _ in change.chains] == ["mark-257"]


def test_marks_are_counted_from_256_in_the_order_in_which_services_are_heard_of_and_none_comes_back() -> None:
    made = place()
    made.mesh.set("web", "web.1", Backend("svc", IPv4Address("10.0.1.3"), WEB_VIP))
    made.mesh.set("ingress", "web.1", backend(6))
    made.settle()
    assert (made.kernel.turns(LB, FIRST_MARK), made.kernel.turns(SBOX, FIRST_MARK + 1)) == (["10.0.1.3"], ["10.0.0.6"])
    made.mesh.drop("web", "web.1")
    made.settle()
    made.mesh.set("web", "web.2", Backend("svc", IPv4Address("10.0.1.4"), WEB_VIP))
    made.settle()
    assert made.kernel.turns(LB, FIRST_MARK + 2) == ["10.0.1.4"]


def test_a_service_whose_published_port_changes_is_balanced_under_both_until_its_old_tasks_have_gone() -> None:
    made = place()
    made.mesh.set("ingress", "old", backend(6))
    made.mesh.set("ingress", "new", backend(7, ports=(Port(80, 9090, "tcp"),)))
    made.settle()
    assert (made.kernel.turns(SBOX, 256), made.kernel.turns(SBOX, 257)) == (["10.0.0.6"], ["10.0.0.7"])
    made.mesh.drop("ingress", "old")
    made.settle()
    assert (SBOX, INGRESS_VIP) in made.kernel.addresses
    assert "8080" not in str(made.kernel.tables)


def test_a_service_without_a_virtual_address_is_balanced_by_nobody() -> None:
    made = place()
    made.mesh.set("web", "db.1", Backend("db", IPv4Address("10.0.1.3"), None))
    made.mesh.set("web", "box", Backend("", IPv4Address("10.0.1.4"), None))
    assert made.settle() == []


def test_two_records_of_one_address_are_one_backend_and_either_may_go() -> None:
    made = place()
    made.mesh.set("ingress", "here/web.6", backend(6, disabled=True))
    made.mesh.set("ingress", "there/web.6", backend(6))
    made.settle()
    assert made.kernel.turns(SBOX, 256) == ["10.0.0.6"]
    made.mesh.drop("ingress", "here/web.6")
    assert made.settle() == []


@both_drivers
def test_a_balancer_that_is_placed_late_is_told_everything_and_one_that_comes_back_begins_anew(driver: type[Driver]) -> None:
    made = Place(Mesh(NODE, driver()))
    made.mesh.set("web", "web.1", Backend("svc", IPv4Address("10.0.1.3"), WEB_VIP))
    assert made.settle() == []
    for _ in range(2):
        made.mesh.place("web", Balancer(LB, IPv4Address("10.0.1.9"), (IPv4Network("10.0.1.0/24"),)))
        made.settle()
        assert made.kernel.turns(LB, 256) == ["10.0.1.3"]
        made.mesh.displace("web")
        made.kernel = Kernel()  # its namespace has gone
        assert made.settle() == []


def test_what_the_kernel_refused_is_said_again() -> None:
    made = place()
    made.mesh.set("ingress", "web.6", backend(6))
    assert made.mesh.steps() == made.mesh.steps() != []
    assert made.mesh.changed
    made.settle()
    assert not made.mesh.changed


# -- the node ------------------------------------------------------------------------------------------------------------------


def test_a_port_of_udp_that_is_published_forgets_who_came_before() -> None:
    made = place()
    made.mesh.set("ingress", "dns", backend(6, ports=(Port(53, 53, "udp"), Port(53, 53, "tcp"))))
    made.settle()
    assert made.kernel.forgotten == [ForgetFlows(NODE, ports=(53,))]


def test_a_host_mode_port_leads_to_the_nodes_own_task_and_one_that_nobody_has_chosen_is_chosen_here() -> None:
    made = place()
    ports = made.mesh.bind("web.1", IPv4Address("172.18.0.3"), [Port(80, 8080, "tcp", True), Port(81, 0, "tcp", True)])
    assert [port.published for port in ports] == [8080, 32768]
    assert made.mesh.bind("web.1", IPv4Address("172.18.0.3"), [Port(80, 8080, "tcp", True), Port(81, 0, "tcp", True)]) == ports
    assert [port.published for port in made.mesh.bind("web.2", IPv4Address("172.18.0.4"), [Port(81, 0, "tcp", True)])] == [32769]
    made.settle()
    led = made.kernel.tables[NODE, "DOCKER-INGRESS"]["DOCKER"].split("; ")
    assert led[:2] == ["tcp dport 8080 dnat to 172.18.0.3:80", "tcp dport 32768 dnat to 172.18.0.3:81"]
    made.mesh.release("web.1")
    made.mesh.release("web.2")
    made.settle()
    assert made.kernel.tables[NODE, "DOCKER-INGRESS"]["DOCKER"] == "return;"


def test_a_task_without_published_ports_has_no_rules() -> None:
    assert expose("vm1:web.1", IPv4Address("10.0.0.6"), []) == []


# -- what others say ---------------------------------------------------------------------------------------------------------------

TOLD = {
    "name": "web.1.abc",
    "service": "web",
    "service_id": "svc",
    "vips": [["ingress", "10.0.0.5/24"], ["web", "10.0.1.2/24"]],
    "ports": [{"target": 80, "published": 8080}, {"target": 80, "published": 81, "mode": "host"}],
    "address": "10.0.0.6",
}


def test_a_record_says_which_address_and_ports_its_service_has_in_a_network() -> None:
    assert Backend.of("ingress", True, TOLD) == backend(6)
    assert Backend.of("web", False, TOLD) == Backend("svc", IPv4Address("10.0.0.6"), WEB_VIP)
    assert Backend.of("ingress", True, {**TOLD, "disabled": True}) == backend(6, disabled=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "10.0.0.600"},
        {"address": None},
        {"vips": 7},
        {"vips": [["ingress"]]},
        {"vips": [["ingress", "10.0.0.5; flush ruleset"]]},
        {"ports": [{"target": 80, "published": "8080; drop"}]},
        {"ports": [{"target": 80, "published": 70000}]},
        {"ports": [{"target": 0, "published": 8080}]},
        {"ports": [{"target": 80, "published": 8080, "protocol": "tcp; drop"}]},
        {"ports": ["80:80"]},
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_refused_before_any_of_it_becomes_a_rule(wrong: dict[str, Any]) -> None:
    with pytest.raises((VxtoolError, KeyError, TypeError, ValueError)):
        Backend.of("ingress", True, TOLD | wrong)


# -- in any order --------------------------------------------------------------------------------------------------------------

PORTS = (Port(80, 8080, "tcp"), Port(53, 53, "udp"), Port(80, 8081, "tcp"))


@st.composite
def happenings(draw: st.DrawFn) -> tuple[Any, ...]:
    kind = draw(st.sampled_from(["set", "set", "set", "drop", "forget", "bind", "release", "settle", "settle", "replace"]))
    network = draw(st.sampled_from(["ingress", "web"]))
    number = draw(st.integers(6, 12))
    service = draw(st.integers(0, 2))
    return kind, network, number, service, draw(st.booleans())


@both_drivers
@settings(max_examples=150, deadline=None)
@given(events=st.lists(happenings(), max_size=40))
def test_whatever_happened_the_kernel_has_what_it_would_have_from_nothing_and_each_change_can_be_taken_back(
    driver: type[Driver], events: list[Any]
) -> None:
    made = place(driver)
    balancers = dict(made.mesh._balancers)
    known: dict[tuple[str, str], Backend] = {}
    bound: dict[str, Port] = {}

    def settle() -> None:
        before = made.kernel.shown()
        steps = made.settle()
        after = made.kernel.shown()
        made.kernel.perform(inverses(step for step in steps if not isinstance(step, SetSysctl)))
        assert made.kernel.shown() == before
        made.kernel.perform(steps)
        assert made.kernel.shown() == after

    for kind, network, number, service, disabled in events:
        key = f"task.{number}"
        if kind == "set":
            ports = (PORTS[service],) if network == "ingress" else ()
            vip = IPv4Address(f"10.0.{int(network == 'web')}.{200 + service}")
            known[network, key] = Backend(f"svc{service}", IPv4Address(f"10.0.{int(network == 'web')}.{number}"), vip, ports, disabled)
            made.mesh.set(network, key, known[network, key])
        elif kind == "drop":
            known.pop((network, key), None)
            made.mesh.drop(network, key)
        elif kind == "forget":
            known = {at: one for at, one in known.items() if at[0] != network}
            made.mesh.forget(network)
        elif kind == "bind":
            made.mesh.release(key)
            bound[key] = Port(80, 9000 + number, "tcp", True)
            made.mesh.bind(key, IPv4Address(f"172.18.0.{number}"), [bound[key]])
        elif kind == "release":
            bound.pop(key, None)
            made.mesh.release(key)
        elif kind == "replace":
            made.mesh.displace("web")
            gone = {at for at in made.kernel.tables if at[0] == LB}
            made.kernel.tables = {at: table for at, table in made.kernel.tables.items() if at not in gone}
            made.kernel.addresses = {at for at in made.kernel.addresses if at[0] != LB}
            made.kernel.services = {at: one for at, one in made.kernel.services.items() if at[0] != LB}
            made.mesh.place("web", balancers["web"])
        else:
            settle()
    settle()

    fresh = Place(Mesh(NODE, driver()))
    fresh.mesh._marks = dict(made.mesh._marks)
    for network, balancer in balancers.items():
        fresh.mesh.place(network, balancer)
    for (network, key), one in known.items():
        fresh.mesh.set(network, key, replace(one))
    for key, port in bound.items():
        fresh.mesh.bind(key, IPv4Address(f"172.18.0.{key.removeprefix('task.')}"), [port])
    fresh.settle()
    assert _unordered(made.kernel.shown()) == _unordered(fresh.kernel.shown())


def _unordered(shown: tuple[Any, ...]) -> tuple[Any, ...]:
    """Rules of one chain may stand in the order in which services came."""
    tables, *rest = shown
    return {key: {name: sorted(re.split(r"; |, ", body)) for name, body in chains.items()} for key, chains in tables.items()}, *rest
