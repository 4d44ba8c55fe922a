"""Impairments: a link made slow, late, lossy or dead, as steps, and the plain link again without a trace.

Knows which part of the kernel gives what, and at which end of a link it has to stand so that captures stay true: a capture at a node shows every
frame the node sent, lost later or not, and no frame that was lost on its way to it. Decides and words; `lab/kernel.py` performs, `lab/delayer.py`
carries the frames of links that the kernel itself cannot delay.

    rate   tbf at both ends: each end sends no faster. (Where netem is there for the delay, netem's own rate: a device has one root qdisc.)
    loss   nftables at the end that is no node (a switch's port, else a router's device), both directions, by chance per frame. Not netem: it would
           stand at the node's own exit, before the capture. A superframe of segmentation offload is one frame here (`lab up --wire` has none).
    delay  netem at both ends; without it a TAP device takes the switch port's place in the bridge, and a process carries frames between the two.
    down   the switch's end is set down: the node's end loses its carrier as if the cable were pulled, and keeps its addresses and routes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from math import ceil

from vxtool.errors import MissingFeature, UsageError
from vxtool.lab.delayer import Relay
from vxtool.lab.steps import (
    AddRoute,
    AddRules,
    AddTap,
    SetDown,
    SetMaster,
    SetNoMaster,
    SetOffload,
    SetQdisc,
    SetUp,
    Step,
    inverses,
)
from vxtool.lab.topology import SWITCHES, End, Impairment, Link, MachineKind, Topology

__all__ = ["Features", "Relay", "as_words", "delay_text", "features", "link_of", "plan", "rate_text", "relays"]

FRAME = 18  # bytes of a frame around an IP packet: Ethernet and one VLAN tag
BURST_SECONDS = 0.002  # what tbf may send at once: enough for a timer that comes late, too little to be seen in a second's rate
QUEUE_SECONDS = 0.05  # how long a frame may wait for its turn before the next one is dropped, when the impairment says nothing (`queue`)
QUEUE_FRAMES = 16  # but never room for fewer than these, however slow the link
FASTEST = 10_000_000_000  # bits per second, for a link without a rate
MILLION = 1_000_000


# -- what the kernel has -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Features:
    """What this machine's kernel and tools can do to a link."""

    tbf: bool = True
    netem: bool = False
    ingress: bool = True  # nftables: hook ingress of family netdev
    egress: bool = True  # its hook egress, since Linux 5.16
    bridge: bool = True  # nftables: family bridge
    tap: bool = True


# Each line tries one thing on the `lo` of a network namespace that nobody else sees and that ends with the shell.
_PROBE = """
tc qdisc add dev lo root tbf rate 1mbit burst 4096 latency 50ms && echo tbf; tc qdisc del dev lo root
tc qdisc add dev lo root netem delay 1ms && echo netem
nft 'table netdev a { chain c { type filter hook ingress device "lo" priority 0; numgen random mod 2 < 1 drop; }; }' && echo ingress
nft 'table netdev b { chain c { type filter hook egress device "lo" priority 0; numgen random mod 2 < 1 drop; }; }' && echo egress
nft 'table bridge a { chain c { type filter hook forward priority 0; oifname "lo" numgen random mod 2 < 1 drop; }; }' && echo bridge
ip tuntap add probe mode tap && echo tap
"""


@cache
def features() -> Features:
    """What this machine has, tried in a network namespace of a child's own. MissingFeature when not even that may be made."""
    try:
        tried = subprocess.run(["unshare", "--net", "sh", "-c", _PROBE], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingFeature("unshare is not installed; it is in the package util-linux") from error
    if tried.stderr.startswith("unshare:"):
        raise MissingFeature(f"no network namespace can be made ({tried.stderr.strip().rpartition(': ')[2].lower()}); a lab needs root")
    found = set(tried.stdout.split())
    return Features(**{field.name: field.name in found for field in fields(Features)})


# -- steps -------------------------------------------------------------------------------------------------------------


def plan(topology: Topology, link: str, before: Impairment, after: Impairment, features: Features, *, wire: bool = False) -> list[Step]:
    """The steps from a link impaired like `before` to one impaired like `after`; what both have is left alone.

    `wire`: the lab's links have no offload anyway (Options.wire). Raises UsageError for an unknown link and MissingFeature for what this machine
    cannot give. Of a delay only the way through the relay is here; `relays` says what the delayer must know.
    """
    chosen = link_of(topology, link)
    was = _impaired(topology, chosen, before, features, wire)
    will = _impaired(topology, chosen, after, features, wire)
    kept = set(was) & set(will)
    return inverses(step for step in was if step not in kept) + [step for step in will if step not in kept]


def link_of(topology: Topology, name: str) -> Link:
    """UsageError with the names there are, the nearest first."""
    found = topology.link(name)
    if found is None:
        from difflib import get_close_matches  # 5 ms that only a mistake costs

        names = [link.name for link in topology.links]
        near = get_close_matches(name, names, n=3, cutoff=0.5) or names[:8]
        raise UsageError(f"no link {name!r} in this lab; there is {', '.join(near)}{', ...' if len(near) < len(names) else ''}")
    return found


def relays(topology: Topology, impairments: Mapping[str, Impairment], features: Features) -> tuple[Relay, ...]:
    """The links that the delayer has to carry when these impairments are in force."""
    if features.netem:
        return ()
    found = []
    for name, impairment in impairments.items():
        link = link_of(topology, name)
        port = _switch_end(topology, link)
        if impairment.delay_ms and port is not None:
            found.append(Relay(name, port.device, _tap(topology, link), impairment.delay_ms, link.mtu, impairment.queue))
    return tuple(found)


def _impaired(topology: Topology, link: Link, impairment: Impairment, features: Features, wire: bool) -> list[Step]:
    """The steps from the plain link; each part stands alone, so that any of them can go and the others stay."""
    return [
        *(_delay(topology, link, features, wire) if impairment.delay_ms and not features.netem else ()),
        *_qdiscs(topology, link, impairment, features),
        *(_loss(topology, link, impairment, features) if impairment.loss and not _loss_by_netem(topology, link, features) else ()),
        *(_down(topology, link, relayed=bool(impairment.delay_ms) and not features.netem) if impairment.down else ()),
    ]


def _kind(topology: Topology, end: End) -> MachineKind:
    machine = topology.of(end.machine)
    assert machine is not None, f"{end.machine} is in a link but not among the machines"
    return machine.kind


def _switch_end(topology: Topology, link: Link) -> End | None:
    return next((end for end in link.ends if _kind(topology, end) is MachineKind.SWITCH), None)


def _inner_end(topology: Topology, link: Link) -> End:
    """The end at which the link is impaired: nobody captures at a switch's port, and routers are captured at less often than nodes."""
    rank = (MachineKind.SWITCH, MachineKind.ROUTER, MachineKind.NODE)
    return min(link.ends, key=lambda end: rank.index(_kind(topology, end)))


def _other_end(link: Link, end: End) -> End:
    return link.b if end is link.a else link.a


def _tap(topology: Topology, link: Link) -> str:
    return f"tap{topology.links.index(link)}"  # `s1-eth1-tap` would be told apart more easily, but a name has room for 15 bytes


def _delay(topology: Topology, link: Link, features: Features, wire: bool) -> list[Step]:
    port = _switch_end(topology, link)
    if port is None:
        raise MissingFeature(
            f"{link.name}: this kernel has no netem (CONFIG_NET_SCH_NETEM), and without it only a link with a switch at one end can be delayed; "
            "put a switch between the two"
        )
    if not features.tap:
        raise MissingFeature(
            f"{link.name}: a delay needs netem (CONFIG_NET_SCH_NETEM) or TAP devices (CONFIG_TUN and /dev/net/tun); this kernel has neither"
        )
    far, tap = _other_end(link, port), _tap(topology, link)
    # A packet socket cannot tell a superframe of VXLAN from a malformed frame, nor finish a checksum: what comes in must be whole. The TAP device
    # offers no offload, so the kernel finishes what goes the other way by itself.
    whole: list[Step] = [] if wire else [SetOffload(topology.namespace(far.machine), far.device, False, ("tx",))]
    return [
        *whole,
        AddTap(SWITCHES, tap, link.mtu),
        SetNoMaster(SWITCHES, port.device, port.machine),
        SetMaster(SWITCHES, tap, port.machine),
        SetUp(SWITCHES, tap),
    ]


def _qdiscs(topology: Topology, link: Link, impairment: Impairment, features: Features) -> list[Step]:
    words = []
    if impairment.delay_ms and features.netem:
        words.append(f"delay {impairment.delay_ms:g}ms")
    if impairment.loss and _loss_by_netem(topology, link, features):
        words.append(f"loss {impairment.loss:g}%")
    if impairment.rate is not None and (words or (features.netem and not features.tbf)):
        words.append(f"rate {impairment.rate}bit")
    if words:
        discipline = f"netem limit {_netem_limit(link, impairment)} {' '.join(words)}"
    elif impairment.rate is None:
        return []
    elif not features.tbf:
        raise MissingFeature(f"{link.name}: a rate needs tbf (CONFIG_NET_SCH_TBF and tc from iproute2) or netem; this machine has neither")
    else:
        discipline = _tbf(link, impairment)
    return [SetQdisc(topology.namespace(end.machine), end.device, discipline) for end in link.ends]


def _tbf(link: Link, impairment: Impairment) -> str:
    """A burst holds two whole frames at least, since what is longer than the burst is never sent; tbf cuts superframes into frames by itself."""
    assert impairment.rate is not None
    frame, per_second = link.mtu + FRAME, impairment.rate / 8
    burst = max(2 * frame, ceil(per_second * BURST_SECONDS))
    queue = impairment.queue * frame if impairment.queue else max(QUEUE_FRAMES * frame, ceil(per_second * QUEUE_SECONDS))
    return f"tbf rate {impairment.rate}bit burst {burst} limit {burst + queue}"


def _netem_limit(link: Link, impairment: Impairment) -> int:
    """Frames that may be under way or wait: netem's default of 1,000 would itself be a loss at a gigabit and 20 ms."""
    if impairment.queue:
        return impairment.queue
    per_second = (impairment.rate or FASTEST) / 8 / (link.mtu + FRAME)
    return ceil(per_second * impairment.delay_ms / 1000 + max(QUEUE_FRAMES, per_second * QUEUE_SECONDS))


def _loss_by_netem(topology: Topology, link: Link, features: Features) -> bool:
    """Only where nftables cannot: netem loses a frame before a capture at its sender has seen it."""
    return features.netem and not _hooks(topology, link, features)


def _hooks(topology: Topology, link: Link, features: Features) -> tuple[tuple[End, tuple[str, ...]], ...]:
    """Where nftables drops: (end, hooks). A node on a switch or a router: both directions at that one. Two routers: each where it sends, as a full
    queue would, so that no capture shows a frame as arrived that is lost. () when this kernel has not got the hooks."""
    inner = _inner_end(topology, link)
    kind = _kind(topology, inner)
    if kind is not MachineKind.SWITCH and kind is _kind(topology, _other_end(link, inner)):
        return tuple((end, ("egress",)) for end in link.ends) if features.egress else ()
    if features.ingress and features.egress:
        return ((inner, ("ingress", "egress")),)
    return ((inner, ("forward",)),) if features.bridge and kind is MachineKind.SWITCH else ()


def _loss(topology: Topology, link: Link, impairment: Impairment, features: Features) -> list[Step]:
    places = _hooks(topology, link, features)
    if not places:
        raise MissingFeature(
            f"{link.name}: loss needs nftables with an egress hook (Linux 5.16, CONFIG_NETFILTER_EGRESS, CONFIG_NFT_NUMGEN, the nft command) "
            "or netem (CONFIG_NET_SCH_NETEM); this machine has neither"
        )
    lost = f"numgen random mod {MILLION} < {round(impairment.loss / 100 * MILLION)} drop" if impairment.loss < 100 else "drop"
    table = f"loss-{link.name}"
    steps: list[Step] = []
    for end, hooks in places:
        # Behind a relay the port is the TAP device: a packet socket would see what an ingress hook at the veth drops.
        relayed = impairment.delay_ms and not features.netem and end is _switch_end(topology, link)
        device = _tap(topology, link) if relayed else end.device
        if hooks == ("forward",):
            body = f'chain forward {{ type filter hook forward priority 0; iifname "{device}" {lost}; oifname "{device}" {lost}; }};'
            steps.append(AddRules(topology.namespace(end.machine), "bridge", table, body))
        else:
            chains = (f'chain {hook} {{ type filter hook {hook} device "{device}" priority 0; {lost}; }};' for hook in hooks)
            steps.append(AddRules(topology.namespace(end.machine), "netdev", table, " ".join(chains)))
    return steps


def _down(topology: Topology, link: Link, *, relayed: bool) -> list[Step]:
    end = _inner_end(topology, link)
    namespace = topology.namespace(end.machine)
    if _kind(topology, end) is MachineKind.SWITCH:
        down = [SetDown(namespace, end.device)]
        return [*down, SetDown(namespace, _tap(topology, link))] if relayed else list(down)
    # A router forgets the routes through a device that is set down, and does not find them again by itself.
    machine = topology.of(end.machine)
    assert machine is not None
    through = (route for route in machine.routes if end.interface is not None and route.via in end.interface.network)
    forgotten = [AddRoute(namespace, route.destination, route.via).inverse() for route in through]
    return [*forgotten, SetDown(namespace, end.device)]


# -- how people write it -----------------------------------------------------------------------------------------------


def rate_text(rate: int) -> str:
    """`10mbit`: the largest unit that leaves no fraction."""
    for unit, factor in (("gbit", 10**9), ("mbit", 10**6), ("kbit", 10**3)):
        if rate % factor == 0:
            return f"{rate // factor}{unit}"
    return f"{rate}bit"


def delay_text(delay_ms: float) -> str:
    if delay_ms >= 1000:
        return f"{delay_ms / 1000:g}s"
    return f"{delay_ms:g}ms" if delay_ms >= 1 else f"{delay_ms * 1000:g}us"


def as_words(impairment: Impairment) -> str:
    """`rate 10mbit delay 20ms loss 1% down`; `plain` for a link with nothing wrong."""
    words = [f"rate {rate_text(impairment.rate)}"] if impairment.rate is not None else []
    words += [f"delay {delay_text(impairment.delay_ms)}"] if impairment.delay_ms else []
    words += [f"loss {impairment.loss:g}%"] if impairment.loss else []
    words += ["down"] if impairment.down else []
    return " ".join(words) or "plain"
