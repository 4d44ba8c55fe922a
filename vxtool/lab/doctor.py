"""What this machine can do for a lab: each feature tried, what is missing because of it, and how to get it.

Knows what a lab uses of a kernel, of libraries and of tools. A feature of the kernel is never looked up but tried, by the calls that a lab makes, in
network, mount and pid namespaces of a child's own that end with it; the machine's are not touched. (What trying does to the machine: a kernel that
loads modules on demand loads them, as building a lab would; an empty control group is made and removed in each hierarchy.)

To add one: a line in FEATURES. `probe` returns what there is to tell, and raises `_Missing` with what the kernel said.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import mmap
import os
import pickle
import resource
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from vxtool.errors import MissingFeature
from vxtool.lab import ipvs, namespaces, nft
from vxtool.lab.ingress import Ipvs, Nftables

__all__ = ["FEATURES", "SCHEMA", "Feature", "Finding", "Findings", "State", "as_document", "examine"]

SCHEMA = "vxtool-doctor@1"


class State(StrEnum):
    OK = "ok"
    MISSING = "missing"
    UNTRIED = "not tried"


class _Missing(Exception):
    """It was tried, and is not there; the text is what was said."""


class _Untried(Exception):
    """It cannot be tried here; the text is why."""


@dataclass(frozen=True, slots=True)
class Feature:
    """`without`: what cannot be done where it is missing. `get`: the packages or kernel options that bring it."""

    id: str
    group: str
    title: str
    without: str
    get: str
    probe: Callable[[], str]
    needed: bool = False  # without it there is no lab at all
    root: bool = False  # only root can try it


@dataclass(frozen=True, slots=True)
class Finding:
    feature: Feature
    state: State
    detail: str = ""  # a version, a number; why it is missing or was not tried


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found, by id of the feature."""

    by_id: Mapping[str, Finding]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.by_id.values())

    def has(self, feature: str) -> bool:
        return self.by_id[feature].state is State.OK

    def require(self, what: str, *features: str) -> None:
        """Raises MissingFeature when one of them is not there: `what` it is for, what was said, how to get it."""
        for name in features:
            finding = self.by_id[name]
            if finding.state is not State.OK:
                raise MissingFeature(
                    f"{what} needs {finding.feature.title}, which is {finding.state} here ({finding.detail}); to have it: {finding.feature.get}"
                )

    @property
    def lab(self) -> bool:
        """Whether a lab can be built here, by this user."""
        return all(finding.state is State.OK for finding in self if finding.feature.needed)

    @property
    def conclusion(self) -> str:
        """One sentence: yes, and without what; or no, and why."""
        lacking = [finding for finding in self if finding.feature.needed and finding.state is not State.OK]
        if lacking:
            untried = {finding.detail for finding in lacking if finding.state is State.UNTRIED}
            if len(untried) == 1 and all(finding.state is State.UNTRIED for finding in lacking):
                return f"a lab can be built here: not known, because what it needs could not be tried ({untried.pop()})"
            return f"a lab can be built here: no; {_listed(f'{finding.feature.title} ({finding.detail})' for finding in lacking)}"
        absent = [finding.feature for finding in self if finding.state is State.MISSING and finding.feature.group in _TOLD]
        return "a lab can be built here: yes" + (f"; without {_listed(feature.title for feature in absent)}" if absent else ", with everything")


_TOLD = ("links", "rules", "traffic", "processes")
"""Groups whose missing features the conclusion names: those that change what a lab can be."""


def _listed(items: Iterable[str]) -> str:
    return ", ".join(items)


# --------------------------------------------------------------------------------------------------------------------
# How it is tried
# --------------------------------------------------------------------------------------------------------------------


def _run(*commands: str) -> Callable[[], str]:
    """Commands, one after the other; the first that fails says what is missing."""

    def probe() -> str:
        for command in commands:
            words = command.split()
            try:
                done = subprocess.run(words, capture_output=True, text=True, check=False)
            except FileNotFoundError:
                raise _Untried(f"{words[0]} is not installed") from None
            if done.returncode:
                raise _Missing(_said(done.stderr))
        return ""

    return probe


def _said(text: str) -> str:
    """The first sentence of what a tool complains of, without its own name for it."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    for prefix in ("RTNETLINK answers: ", "Error: "):
        first = first.removeprefix(prefix)
    return (first[:1].lower() + first[1:]).removesuffix(".")


def _rules(text: str) -> Callable[[], str]:
    def probe() -> str:
        try:
            complaint = nft.load(text)
        except MissingFeature as error:
            raise _Untried("nftables is not installed") from error
        if complaint is not None:
            raise _Missing(_said(complaint))
        return ""

    return probe


def _made(kind: int) -> Callable[[], str]:
    def probe() -> str:
        try:
            namespaces.unshare(kind)
        except OSError as error:
            raise _Missing((error.strerror or str(error)).lower()) from error
        return ""

    return probe


def _pid_namespace() -> str:
    """A child's child is process 1 in it."""
    _made(namespaces.CLONE_NEWPID)()
    child = os.fork()
    if child == 0:
        os._exit(0 if os.getpid() == 1 else 1)
    if os.waitpid(child, 0)[1] != 0:
        raise _Missing("the first process in it is not number 1")
    return ""


def _vxlan_across() -> str:
    """As the overlay driver's devices end up: in a sandbox, with the UDP socket in the node's namespace."""
    namespaces.create("doctor")
    _run(
        "ip link add vxlan0 netns doctor type vxlan id 4097 dstport 4789 proxy l2miss l3miss",
        "ip -n doctor link set vxlan0 up",
    )()
    if ":12B5 " not in Path("/proc/thread-self/net/udp").read_text():
        raise _Missing("its UDP socket is not in the namespace it was made from")
    return ""


def _packet_ring() -> str:
    """A TPACKET_V3 ring of 64 KiB, mapped."""
    packet, version, ring, v3 = 263, 10, 5, 2  # SOL_PACKET, PACKET_VERSION, PACKET_RX_RING, TPACKET_V3
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as capture:
            capture.setsockopt(packet, version, v3)
            capture.setsockopt(packet, ring, struct.pack("7I", 65536, 1, 2048, 32, 10, 0, 0))
            mmap.mmap(capture.fileno(), 65536).close()
    except OSError as error:
        raise _Missing((error.strerror or str(error)).lower()) from error
    return "TPACKET_V3"


def _socket(family: int, kind: int, protocol: int) -> Callable[[], str]:
    def probe() -> str:
        try:
            socket.socket(family, kind, protocol).close()
        except OSError as error:
            raise _Missing((error.strerror or str(error)).lower()) from error
        return ""

    return probe


def _generic_netlink(family: str) -> int:
    """The number of a generic netlink family (a kernel that can, loads its module for it); `_Missing` when there is none."""
    name = family.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), 2) + name  # CTRL_ATTR_FAMILY_NAME
    body = struct.pack("=BBH", 3, 1, 0) + attribute + bytes(-len(attribute) % 4)  # CTRL_CMD_GETFAMILY
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as asking:
        asking.send(struct.pack("=IHHII", 16 + len(body), 16, 1, 1, 0) + body)
        answer = asking.recv(8192)
    (kind,) = struct.unpack_from("=H", answer, 4)
    if kind == 2:  # NLMSG_ERROR
        raise _Missing(f"the kernel knows no family {family}")
    place = 20
    while place + 4 <= len(answer):
        length, number = struct.unpack_from("=HH", answer, place)
        if number == 1:  # CTRL_ATTR_FAMILY_ID
            return int(struct.unpack_from("=H", answer, place + 4)[0])
        place += (length + 3) & ~3
    raise _Missing(f"the kernel gives family {family} no number")


def _ipvs() -> str:
    """A service for firewall mark 1 with round robin, as the overlay's load balancer has one for each VIP."""
    family = _generic_netlink("IPVS")

    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    service = b"".join(
        (
            attribute(1, struct.pack("=H", socket.AF_INET)),
            attribute(5, struct.pack("=I", 1)),
            attribute(6, b"rr\0"),
            attribute(7, struct.pack("=II", 0, 0xFFFFFFFF)),
            attribute(8, struct.pack("=I", 0)),
            attribute(9, struct.pack("=I", 0xFFFFFFFF)),
        )
    )
    body = struct.pack("=BBH", 1, 1, 0) + attribute(1 | 0x8000, service)  # IPVS_CMD_NEW_SERVICE, IPVS_CMD_ATTR_SERVICE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as asking:
        asking.send(struct.pack("=IHHII", 16 + len(body), family, 5, 1, 0) + body)
        (error,) = struct.unpack_from("=i", asking.recv(8192), 16)
    if error:
        raise _Missing(f"a service with scheduler rr: {os.strerror(-error).lower()}")
    return ""


def _balancing() -> str:
    """Which driver the agents of a lab's nodes choose, by trying what they try."""
    if ipvs.works():
        return Ipvs.name
    _chain("ip", "prerouting", "meta mark 256 dnat to numgen inc mod 2 map { 0 : 10.0.1.3, 1 : 10.0.1.4 }", "nat")()
    return Nftables.name


def _ovs() -> str:
    _generic_netlink("ovs_datapath")
    return ""


def _setting(path: str) -> Callable[[], str]:
    def probe() -> str:
        try:
            return f"{path.rsplit('/', 1)[-1]} = {Path('/proc/sys', path).read_text().strip()}"
        except OSError as error:
            raise _Missing(f"no /proc/sys/{path}") from error

    return probe


def _ipv6() -> str:
    _socket(socket.AF_INET6, socket.SOCK_DGRAM, 0)()
    return _setting("net/ipv6/conf/all/disable_ipv6")()


def _cgroups() -> str:
    """In each hierarchy that has a controller a lab would use: an empty group, made and removed."""
    from vxtool.lab.cgroups import CONTROLLERS

    found: dict[str, str] = {}
    refused = ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup2":
            listed = Path(folder, "cgroup.controllers")
            controllers = set(listed.read_text().split()) if listed.exists() else set()
        elif kind == "cgroup":
            controllers = set(options.split(","))
        else:
            continue
        useful = [name for name in CONTROLLERS if name in controllers and name not in found]
        if not useful:
            continue
        group = Path(folder, f"vxtool-doctor-{os.getpid()}")
        try:
            group.mkdir()
            group.rmdir()
        except OSError as error:
            refused = f"; {folder}: {(error.strerror or str(error)).lower()}"
            continue
        found |= dict.fromkeys(useful, "version 2" if kind == "cgroup2" else "version 1")
    if lacking := [name for name in CONTROLLERS if name not in found]:
        raise _Missing(f"no controller {_listed(lacking)}{refused}")
    return _listed(f"{name} ({version})" for name, version in found.items())


def _library(*names: str) -> Callable[[], str]:
    def probe() -> str:
        for name in names:
            try:
                ctypes.CDLL(name)
            except OSError:
                continue
            return name
        raise _Missing(f"there is no {names[0]}")

    return probe


def _python(module: str) -> Callable[[], str]:
    def probe() -> str:
        if importlib.util.find_spec(module) is None:
            raise _Missing(f"Python {sys.version_info[0]}.{sys.version_info[1]} finds no module {module}")
        try:
            return importlib.metadata.version(module)
        except importlib.metadata.PackageNotFoundError:
            return ""

    return probe


def _tool(name: str) -> Callable[[], str]:
    def probe() -> str:
        # An engine or a packet filter may be in a folder of the administrator's that a user's PATH leaves out.
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
        if path is None:
            raise _Missing("not installed")
        return path

    return probe


def _open_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        raise _Missing(f"a process may open {hard} files")
    return f"{soft}, up to {'any number' if hard == resource.RLIM_INFINITY else hard}"


def _processes() -> str:
    pids, threads = (int(Path("/proc/sys/kernel", name).read_text()) for name in ("pid_max", "threads-max"))
    if min(pids, threads) < 8192:
        raise _Missing(f"{min(pids, threads)} processes on the whole machine")
    return f"{min(pids, threads)} on the whole machine"


def _neighbours() -> str:
    """Permanent entries, which an overlay consists of, do not count since Linux 5.0 (neigh_alloc, exempt_from_gc); learned ones do."""
    values = []
    for number in (1, 2, 3):
        try:
            values.append(int(Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{number}").read_text()))
        except OSError:
            raise _Untried("this network namespace does not tell them; they are the machine's") from None
    if values[2] < 1024:
        raise _Missing(f"no more than {values[2]} learned neighbours")
    return " / ".join(str(value) for value in values)


def _memory() -> str:
    told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(told["MemAvailable"].split()[0]) / 1024
    if available < 256:
        raise _Missing(f"{available:.0f} MB are free")
    return f"{available / 1024:.1f} GB free"


# --------------------------------------------------------------------------------------------------------------------
# What is tried
# --------------------------------------------------------------------------------------------------------------------

GROUPS = ("namespaces", "links", "rules", "traffic", "processes", "libraries", "tools", "limits")


def _kernel(group: str, *lines: tuple[str, str, str, str, Callable[[], str]], needed: bool = False) -> list[Feature]:
    return [Feature(name, group, title, without, get, probe, needed, root=True) for name, title, without, get, probe in lines]


_CHAIN = "table {family} doctor {{ chain c {{ type {kind} hook {hook}{device} priority 0; {rule}; }}; }}"


def _chain(family: str, hook: str, rule: str, kind: str = "filter", device: str = "") -> Callable[[], str]:
    return _rules(_CHAIN.format(family=family, kind=kind, hook=hook, device=f' device "{device}"' if device else "", rule=rule))


FEATURES: Sequence[Feature] = (
    *_kernel(
        "namespaces",
        ("netns", "network namespaces", "no lab at all", "CONFIG_NET_NS", _made(namespaces.CLONE_NEWNET)),
        ("mntns", "mount namespaces", "no lab at all", "any Linux; a container needs CAP_SYS_ADMIN", _made(namespaces.CLONE_NEWNS)),
        ("pidns", "pid namespaces", "no lab at all", "CONFIG_PID_NS", _pid_namespace),
        ("utsns", "host names of one's own", "no lab at all", "CONFIG_UTS_NS", _made(namespaces.CLONE_NEWUTS)),
        needed=True,
    ),
    *_kernel(
        "links",
        ("veth", "veth pairs", "no lab at all", "CONFIG_VETH", _run("ip link add veth0 type veth peer name veth1")),
        ("bridge", "Linux bridges", "no lab at all", "CONFIG_BRIDGE", _run("ip link add br0 type bridge", "ip link set br0 up")),
        (
            "vxlan",
            "VXLAN devices",
            "no overlay network can be built",
            "CONFIG_VXLAN",
            _run("ip link add vxlan0 type vxlan id 4097 dstport 4789 proxy l2miss l3miss", "ip link set vxlan0 up"),
        ),
        ("vxlan_across", "VXLAN devices across namespaces", "no overlay network can be built", "CONFIG_VXLAN, Linux 4.6", _vxlan_across),
        needed=True,
    ),
    *_kernel(
        "links",
        ("tap", "TAP devices", "links cannot be delayed without netem", "CONFIG_TUN, /dev/net/tun", _run("ip tuntap add t0 mode tap")),
        ("ipv6", "IPv6", "no IPv6 underlay or overlay (a lab switches it off unless asked)", "CONFIG_IPV6", _ipv6),
        ("sctp", "SCTP", "published SCTP ports answer nobody", "CONFIG_IP_SCTP", _socket(socket.AF_INET, socket.SOCK_STREAM, 132)),
        (
            "ovs",
            "the Open vSwitch datapath",
            "Mininet's default switch cannot be used; a lab's switches are Linux bridges",
            "CONFIG_OPENVSWITCH, package openvswitch-switch",
            _ovs,
        ),
    ),
    *_kernel(
        "rules",
        (
            "nft_nat",
            "nftables NAT",
            "endpoints have no way out (docker_gwbridge masquerades)",
            "CONFIG_NF_TABLES_IPV4, CONFIG_NFT_NAT, CONFIG_NFT_MASQ; package nftables",
            _chain("ip", "postrouting", 'oifname != "br0" masquerade', "nat"),
        ),
        needed=True,
    ),
    *_kernel(
        "rules",
        (
            "nft_numgen",
            "nftables numgen",
            "services cannot be balanced without IPVS, and links cannot lose frames without netem",
            "CONFIG_NFT_NUMGEN",
            _chain("ip", "prerouting", "ip daddr 10.0.1.2 dnat to numgen inc mod 2 map { 0 : 10.0.1.3, 1 : 10.0.1.4 }", "nat"),
        ),
        (
            "nft_ct",
            "connection tracking",
            "no NAT, no balancing",
            "CONFIG_NF_CONNTRACK, CONFIG_NFT_CT",
            _chain("ip", "forward", "ct state established accept"),
        ),
        (
            "nft_ingress",
            "nftables' ingress hook",
            "loss on a link needs netem",
            "CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS",
            _chain("netdev", "ingress", "numgen random mod 100 < 1 drop", device="lo"),
        ),
        (
            "nft_egress",
            "nftables' egress hook",
            "loss on a link needs netem",
            "CONFIG_NETFILTER_EGRESS, Linux 5.16",
            _chain("netdev", "egress", "numgen random mod 100 < 1 drop", device="lo"),
        ),
        (
            "nft_bridge",
            "nftables on bridges",
            "endpoints of different networks reach each other through docker_gwbridge, which Docker forbids",
            "CONFIG_NF_TABLES_BRIDGE",
            _chain("bridge", "forward", 'iifname "veth*" oifname "veth*" ether type ip drop'),
        ),
        (
            "nft_ipsec",
            "nftables' IPsec match",
            "clear text in encrypted networks is not refused",
            "CONFIG_NFT_XFRM",
            _chain("ip", "input", "meta ipsec missing accept"),
        ),
        (
            "br_netfilter",
            "iptables on bridges",
            "a real engine on this machine cannot isolate its bridges; a lab does not need it",
            "CONFIG_BRIDGE_NETFILTER (module br_netfilter)",
            _setting("net/bridge/bridge-nf-call-iptables"),
        ),
        (
            "ipvs",
            "IPVS",
            "services are balanced by nftables instead, which a real engine never does",
            "CONFIG_IP_VS, CONFIG_IP_VS_RR, package ipvsadm",
            _ipvs,
        ),
        (
            "balancing",
            "balancing of services",
            "virtual addresses and published ports answer nobody",
            "CONFIG_IP_VS and CONFIG_IP_VS_RR, or CONFIG_NFT_NUMGEN",
            _balancing,
        ),
        (
            "esp",
            "ESP (encryption)",
            "encrypted networks cannot be run; decode and verify know them",
            "CONFIG_INET_ESP, CONFIG_XFRM_USER, CONFIG_CRYPTO_GCM",
            _run(
                "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1000 mode transport"
                " aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 64",
                "ip xfrm policy add src 192.0.2.1/32 dst 192.0.2.2/32 proto udp dport 4789 dir out mark 0xd0c4e3 mask 0xffffffff"
                " tmpl src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1000 mode transport",
            ),
        ),
    ),
    *_kernel(
        "traffic",
        (
            "netem",
            "netem",
            "delays are made by a process (TAP) and losses by nftables; no jitter, reordering or corruption",
            "CONFIG_NET_SCH_NETEM",
            _run("tc qdisc add dev lo root netem delay 20ms loss 1%"),
        ),
        (
            "tbf",
            "the token bucket (tbf)",
            "links cannot be limited in rate",
            "CONFIG_NET_SCH_TBF",
            _run("tc qdisc add dev lo root tbf rate 10mbit burst 32768 latency 50ms"),
        ),
        (
            "htb",
            "htb",
            "nothing; Mininet's own links are limited by it",
            "CONFIG_NET_SCH_HTB",
            _run("tc qdisc add dev lo root handle 1: htb default 1", "tc class add dev lo parent 1: classid 1:1 htb rate 10mbit"),
        ),
        ("ring", "packet rings (AF_PACKET)", "`vxtool capture` cannot capture", "CONFIG_PACKET", _packet_ring),
    ),
    *_kernel(
        "processes",
        (
            "cgroups",
            "control groups",
            "memory, processors and processes of endpoints are not limited",
            "CONFIG_MEMCG, CONFIG_CGROUP_PIDS, CONFIG_CGROUP_SCHED",
            _cgroups,
        ),
    ),
    Feature(
        "libnftables",
        "libraries",
        "libnftables",
        "rules are loaded by the nft command, 20 times slower",
        "apt install libnftables1",
        _library("libnftables.so.1"),
    ),
    Feature(
        "libpcap",
        "libraries",
        "libpcap",
        "captures cannot be filtered (`--filter`)",
        "apt install libpcap0.8",
        _library("libpcap.so.1", "libpcap.so.0.8"),
    ),
    Feature(
        "mininet",
        "libraries",
        "Mininet's classes",
        "topologies of mininet_topos cannot be read; those in YAML can",
        "pip install 'vxtool[lab]'",
        _python("mininet"),
    ),
    Feature("pyroute2", "libraries", "pyroute2", "nothing; the tests have one witness less", "pip install 'vxtool[lab]'", _python("pyroute2")),
    *(
        Feature(f"tool_{name}", "tools", name, without, f"apt install {package}", _tool(name), needed=name == "ip")
        for name, package, without in (
            ("ip", "iproute2", "no lab: some steps are its commands, and so are dump and compare"),
            ("bridge", "iproute2", "`lab dump` and `lab compare` cannot read forwarding tables"),
            ("tc", "iproute2", "links cannot be limited in rate"),
            ("nft", "nftables", "`lab dump` cannot show rules"),
            ("ethtool", "ethtool", "nothing; offloads can be looked at with it"),
            ("tcpdump", "tcpdump", "nothing; `vxtool capture` captures"),
            ("tshark", "tshark", "the tests have one witness less"),
            ("ping", "iputils-ping", "the examples of this program cannot be typed"),
            ("dig", "bind9-dnsutils", "names cannot be asked for by hand"),
            ("ipvsadm", "ipvsadm", "`lab dump` cannot show IPVS"),
            ("iptables-save", "iptables", "`lab compare` cannot read a real engine's rules"),
            ("dockerd", "docker.io", "no real engine to compare a lab with (`lab compare --engine`)"),
            ("mn", "mininet", "mininet_topos cannot be tried with Mininet's own command"),
            ("mnexec", "mininet", "Mininet's own hosts cannot be started; a lab's need it not"),
            ("brctl", "bridge-utils", "Mininet's own Linux bridges cannot be made; a lab's need it not"),
            ("qemu-system-x86_64", "qemu-system-x86", "`make test-vm` cannot run"),
        )
    ),
    Feature("open_files", "limits", "open files", "large labs: captures at more than some hundred places", "ulimit -Hn 65536", _open_files),
    Feature(
        "processes", "limits", "processes", "large labs: a program in each of thousands of endpoints", "sysctl kernel.pid_max=4194304", _processes
    ),
    Feature(
        "gc_thresh",
        "limits",
        "learned neighbours (gc_thresh1 / 2 / 3)",
        "on large networks neighbours are forgotten: `neighbour table overflow` in the kernel's log",
        "sysctl net.ipv4.neigh.default.gc_thresh3=65536 (an engine raises it too)",
        _neighbours,
    ),
    Feature("memory", "limits", "memory", "small labs only: an endpoint takes up to 3 MB", "more of it", _memory),
)


# --------------------------------------------------------------------------------------------------------------------
# Examining
# --------------------------------------------------------------------------------------------------------------------


@cache
def examine() -> Findings:
    """Tries every feature, once in a process's life. What only root can try is left untried without root."""
    tried = {}
    linux = sys.platform.startswith("linux")
    if linux and os.geteuid() == 0:
        tried = {feature.id: _alone(feature) for feature in FEATURES if feature.root}
    found = {}
    for feature in FEATURES:
        if feature.id in tried:
            state, detail = tried[feature.id]
        elif feature.root:
            state, detail = State.UNTRIED, "needs root: put sudo in front" if linux else f"this is {sys.platform}, not Linux"
        else:
            state, detail = _tried(feature)
        found[feature.id] = Finding(feature, state, detail)
    return Findings(found)


def _tried(feature: Feature) -> tuple[State, str]:
    try:
        return State.OK, feature.probe()
    except _Missing as missing:
        return State.MISSING, str(missing)
    except _Untried as untried:
        return State.UNTRIED, str(untried)
    except OSError as error:
        return State.MISSING, (error.strerror or str(error)).lower()


def _alone(feature: Feature) -> tuple[State, str]:
    """In a child that ends with all it has made, in namespaces of its own; the answer comes back through a pipe."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        answer = (State.UNTRIED, "the attempt ended without an answer")
        try:
            if feature.group != "namespaces":
                namespaces.private_world()
            answer = _tried(feature)
        except BaseException as error:  # a child that raised would go on as a second vxtool
            answer = (State.UNTRIED, str(error))
        finally:
            os.write(writing, pickle.dumps(answer))
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        told = file.read()
    os.waitpid(pid, 0)
    answer = pickle.loads(told) if told else (State.UNTRIED, "the attempt was killed")
    assert isinstance(answer, tuple)
    return answer


def as_document(findings: Findings) -> dict[str, Any]:
    """As JSON values."""
    return {
        "schema": SCHEMA,
        "lab": findings.lab,
        "conclusion": findings.conclusion,
        "features": [
            {
                "id": finding.feature.id,
                "group": finding.feature.group,
                "title": finding.feature.title,
                "state": str(finding.state),
                "needed": finding.feature.needed,
                "detail": finding.detail,
                "without": finding.feature.without,
                "get": finding.feature.get,
            }
            for finding in findings
        ],
    }
