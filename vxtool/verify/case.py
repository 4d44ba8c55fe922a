"""The case: the table, what the cluster should be, and where each capture was taken, with the views that several checks share.

Knows how to group rows and how to ask the Cluster; refuses to judge. Two ideas keep the checks short and fast:

* a **talk** is everything that frames with the same addresses have in common: capture, moment, outer and inner addresses, VNI, protocol. There are
  thousands of talks where there are millions of frames, so checks of addresses loop over talks;
* a **moment** is the stretch of time in which one Cluster is in force. While a change settles, a talk is judged by the old and by the new one, and
  either may be right.
"""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vxtool.decode.columns import HEADER_HAVE, TUNNELS
from vxtool.model import Address, Cluster, Endpoint, Mac, Network, Node, Timeline, from_halves, halves, locate
from vxtool.verify.connections import Connection, connections
from vxtool.verify.table import Table

__all__ = ["EVIDENCE", "TALK_COLUMNS", "Case", "Settings", "Talk", "Vantage"]

EVIDENCE = 5
"""Frames named per finding."""

D_FLAG = 0x00400000
"""Don't learn: a bit of the first word of a VXLAN header whose G bit is set (draft-smith-vxlan-group-policy section 2.1)."""

TALK_COLUMNS = (
    "tunnel",
    "inner_tunnel",
    "depth",
    "vni",
    "outer_have",
    "outer_ip_version",
    "outer_ip_src_hi",
    "outer_ip_src_lo",
    "outer_ip_dst_hi",
    "outer_ip_dst_lo",
    "outer_proto",
    "outer_dport",
    "inner_have",
    "inner_eth_src",
    "inner_eth_dst",
    "inner_ethertype",
    "inner_ip_version",
    "inner_ip_src_hi",
    "inner_ip_src_lo",
    "inner_ip_dst_hi",
    "inner_ip_dst_lo",
    "inner_proto",
    "control",
    "vxlan_word",
)
"""Columns a check needs when it uses `Case.talks`, `Case.tunnel_talks` or `Case.vantages`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user said besides captures and expectations."""

    profile: str = "docker-swarm"
    data_path_port: int | None = None  # --port; None: the Cluster's, else 4789 (docker-swarm) or what the profile says
    physical: bool = False  # --underlay physical: frames crossed a real wire, so unfinished checksums from afar are faults
    underlay_mtu: int | None = None  # bytes of an IP packet
    alpha: float = 0.001  # of each statistical test


@dataclass(frozen=True, slots=True)
class Vantage:
    """Where a capture was taken."""

    name: str  # of the capture
    kind: str  # "node" (its underlay interface), "endpoint" (inside a sandbox), "segment" (a mirror of several nodes) or "unknown"
    node: str | None = None  # Node.name; for an endpoint the node it lives on
    vtep: Address | None = None  # the node's, when it is known
    endpoint: Endpoint | None = None
    inferred: bool = True  # false: the user said so
    note: str = ""  # how it was inferred


@dataclass(frozen=True, slots=True)
class Talk:
    """Frames of one capture and one moment that agree in all addresses."""

    capture: int
    moment: int  # position in Timeline.moments
    settled: bool
    tunnel: str  # columns.TUNNELS
    depth: int
    vni: int  # of the outermost tunnel; -1 without one
    outer_src: Address | None
    outer_dst: Address | None
    dport: int  # outer UDP destination port
    eth_src: Mac | None
    eth_dst: Mac | None
    ethertype: int
    ip_src: Address | None
    ip_dst: Address | None
    proto: int  # inner; -1 without IP
    esp: bool
    control: bool  # management or gossip of the swarm, by port
    frames: int
    rows: tuple[int, ...]  # the first EVIDENCE positions in the table
    first_ns: int
    last_ns: int
    clusters: tuple[Cluster, ...] = field(repr=False, default=())  # by which it may be judged, the newest first
    unlearned: bool = False  # group policy's D bit: nobody may learn from it where its source lives


@dataclass(frozen=True)
class Groups:
    """Rows grouped by equal values of some columns."""

    rows: npt.NDArray[np.intp]  # the rows that were grouped, those of a group together and in file order
    starts: npt.NDArray[np.intp]  # where each group begins in `rows`; groups are in the order of their first frames
    counts: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.starts)

    def first(self, group: int, most: int = EVIDENCE) -> tuple[int, ...]:
        start = int(self.starts[group])
        return tuple(self.rows[start : start + min(most, int(self.counts[group]))].tolist())

    def members(self, group: int) -> npt.NDArray[np.intp]:
        start = int(self.starts[group])
        return self.rows[start : start + int(self.counts[group])]

    @property
    def heads(self) -> npt.NDArray[np.intp]:
        """The first row of each group."""
        return self.rows[self.starts]

    @property
    def numbers(self) -> npt.NDArray[np.intp]:
        """The group of each value that `group_values` was given."""
        numbers = np.empty(len(self.rows), np.intp)
        as_stored = np.argsort(self.starts)
        numbers[self.rows] = np.repeat(as_stored, self.counts[as_stored])
        return numbers


class Case:
    """Everything a check may ask."""

    def __init__(self, table: Table, timeline: Timeline, settings: Settings | None = None) -> None:
        self.table = table
        self.timeline = timeline
        self.settings = settings or Settings()
        self.notes: list[str] = []  # what was inferred, one sentence each
        # Captures come from strangers: with a fixed multiplier two sets of addresses could be made to look like one.
        self._odd = [np.uint64(secrets.randbits(64) | 1) for _ in range(32)]
        self._ends: dict[tuple[int, ...], frozenset[Address]] = {}
        self._locate_nodes()

    def _locate_nodes(self) -> None:
        """Give nodes without an address the one from which their endpoints are heard (model.locate)."""
        heard: dict[tuple[int, Mac], dict[Address, int]] = defaultdict(lambda: defaultdict(int))
        for talk in self.talks:
            if talk.tunnel != "none" and talk.eth_src is not None and talk.outer_src is not None and not talk.unlearned:
                heard[talk.vni, talk.eth_src][talk.outer_src] += talk.frames
        moments = tuple(replace(moment, cluster=locate(moment.cluster, heard)) for moment in self.timeline.moments)
        if moments != self.timeline.moments:
            self.timeline = replace(self.timeline, moments=moments)
            self.notes = list(dict.fromkeys(note for moment in moments for note in moment.cluster.notes))
            del self.__dict__["talks"]  # they carry the clusters by which they are judged

    # -- expectations ------------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """The last cluster: what holds at the end."""
        return self.timeline.clusters[-1]

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        return self.timeline.clusters

    @cached_property
    def moment_of_row(self) -> npt.NDArray[np.intp]:
        return np.searchsorted(np.array(self.timeline.changes_ns, np.int64), self.table["ts"], side="right")

    @cached_property
    def settled_row(self) -> npt.NDArray[np.bool_]:
        changes = np.array((-(2**62), *self.timeline.changes_ns), np.int64)
        settled: npt.NDArray[np.bool_] = self.table["ts"] - changes[self.moment_of_row] >= self.timeline.settling_ns
        return settled

    def acceptable(self, row: int) -> tuple[Cluster, ...]:
        """The clusters by which a row may be judged, the newest first."""
        return self.timeline.acceptable(int(self.table["ts"][row]))

    @cached_property
    def data_path_port(self) -> int:
        """The UDP port VXLAN should be on."""
        if self.settings.data_path_port is not None:
            return self.settings.data_path_port
        if self.cluster.data_path_port is not None:
            return self.cluster.data_path_port
        return 8472 if self.settings.profile == "flannel" else 4789

    def node_name(self, address: Address | None) -> str:
        """How a VTEP is called in messages: its node's name, else the address."""
        if address is None:
            return "?"
        for cluster in reversed(self.clusters):
            node = cluster.node_by_address.get(address)
            if node is not None:
                return node.name
        return str(address)

    def nodes_of(self, *addresses: Address | None) -> tuple[str, ...]:
        """Names for a verdict's `nodes`, each once, in order."""
        return tuple(dict.fromkeys(self.node_name(address) for address in addresses if address is not None))

    def tunnel_ends(self, clusters: tuple[Cluster, ...]) -> frozenset[Address]:
        """Every address of every node of some clusters."""
        key = tuple(map(id, clusters))
        if key not in self._ends:
            self._ends[key] = frozenset(address for cluster in clusters for address in (*cluster.vteps, *cluster.node_by_address))
        return self._ends[key]

    @staticmethod
    def network_of(clusters: Iterable[Cluster], vni: int) -> Network | None:
        return next((found for cluster in clusters if (found := cluster.network_by_vni.get(vni)) is not None), None)

    @staticmethod
    def endpoints_at(clusters: Iterable[Cluster], vni: int, address: Address | None) -> tuple[Endpoint, ...]:
        """Every endpoint that has, or while a change settles had, this inner address in this segment."""
        if address is None:
            return ()
        return tuple(dict.fromkeys(endpoint for cluster in clusters for endpoint in cluster.endpoints_by_ip.get((vni, address), ())))

    # -- grouping ----------------------------------------------------------------------------------------------------------

    def group(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | None, *columns: npt.NDArray[np.generic]) -> Groups:
        """Groups of equal values. `which`: a mask or positions, None for all rows; `columns`: full-length arrays."""
        if which is None:
            which = np.arange(len(self.table))
        rows = np.flatnonzero(which) if which.dtype == np.bool_ else which.astype(np.intp)
        groups = self.group_values([column[rows] for column in columns])
        return Groups(rows[groups.rows], groups.starts, groups.counts)

    def group_values(self, columns: Sequence[npt.NDArray[np.generic]]) -> Groups:
        """Groups of equal values of columns of one length; `rows` are positions in them."""
        rows = np.arange(len(columns[0])) if columns else np.zeros(0, np.intp)
        if len(rows) == 0:
            return Groups(rows, np.zeros(0, np.intp), np.zeros(0, np.intp))
        key = np.zeros(len(rows), np.uint64)
        for column, odd in zip(columns, self._odd, strict=False):
            key ^= column.astype(np.uint64) + np.uint64(0x9E37)
            key *= odd
            key ^= key >> np.uint64(31)
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        counts = np.diff(np.append(starts, len(rows)))
        place = np.argsort(order[starts], kind="stable")  # groups in the order of their first rows, so that reports read in time
        return Groups(order, starts[place], counts[place])

    def address(self, name: str, row: int) -> Address | None:
        """An address column ("outer_ip_src", "inner_ip_dst", ...) of one row."""
        side = name.split("_", 1)[0]
        if not int(self.table[f"{side}_have"][row]) & HEADER_HAVE["ip"]:
            return None
        return from_halves(int(self.table[f"{name}_hi"][row]), int(self.table[f"{name}_lo"][row]))

    def quoted(self, name: str, row: int) -> Address:
        """An address of the packet that an ICMP error quotes ("quoted_ip_src", "quoted_ip_dst")."""
        return from_halves(int(self.table[f"{name}_hi"][row]), int(self.table[f"{name}_lo"][row]))

    @staticmethod
    def stored(address: Address) -> tuple[np.uint64, np.uint64]:
        """An address as the table stores it, for comparing whole columns."""
        high, low = halves(address)
        return np.uint64(high), np.uint64(low)

    @cached_property
    def talks(self) -> tuple[Talk, ...]:
        """All frames, grouped by their addresses."""
        table = self.table
        names = [name for name in TALK_COLUMNS if name not in ("inner_tunnel", "outer_have", "inner_have", "vxlan_word")]
        esp = table.have("esp")
        unlearned = table.have("gbp") & ((table["vxlan_word"] & D_FLAG) != 0)
        have = (table["outer_have"] & 0x23, table["inner_have"] & 0x23)
        extra = (table["capture"], self.moment_of_row, self.settled_row, esp, unlearned, *have)
        port = np.where(table["tunnel"] != 0, table["outer_dport"], 0)
        groups = self.group(None, *extra, *(port if name == "outer_dport" else table[name] for name in names))
        return tuple(self._talk(groups, g, esp, unlearned) for g in range(len(groups)))

    def _talk(self, groups: Groups, group: int, esp: npt.NDArray[np.bool_], unlearned: npt.NDArray[np.bool_]) -> Talk:
        table = self.table
        members = groups.members(group)
        row = int(members[0])
        inner = int(table["inner_have"][row])
        tunnelled = bool(table["tunnel"][row])
        times = table["ts"][members]
        return Talk(
            capture=int(table["capture"][row]),
            moment=int(self.moment_of_row[row]),
            settled=bool(self.settled_row[row]),
            tunnel=TUNNELS[int(table["tunnel"][row])],
            depth=int(table["depth"][row]),
            vni=int(table["vni"][row]) if tunnelled else -1,
            outer_src=self.address("outer_ip_src", row),
            outer_dst=self.address("outer_ip_dst", row),
            dport=int(table["outer_dport"][row]) if tunnelled else 0,
            eth_src=Mac(int(table["inner_eth_src"][row])) if inner & HEADER_HAVE["eth"] else None,
            eth_dst=Mac(int(table["inner_eth_dst"][row])) if inner & HEADER_HAVE["eth_dst"] else None,
            ethertype=int(table["inner_ethertype"][row]),
            ip_src=self.address("inner_ip_src", row),
            ip_dst=self.address("inner_ip_dst", row),
            proto=int(table["inner_proto"][row]) if inner & HEADER_HAVE["ip"] else -1,
            esp=bool(esp[row]),
            control=bool(table["control"][row]),
            frames=len(members),
            rows=tuple(members[:EVIDENCE].tolist()),
            first_ns=int(times.min()),
            last_ns=int(times.max()),
            clusters=self.acceptable(row) if not self.settled_row[row] else (self.timeline.clusters[int(self.moment_of_row[row])],),
            unlearned=bool(unlearned[row]),
        )

    @cached_property
    def tunnel_talks(self) -> tuple[Talk, ...]:
        """Talks inside a tunnel."""
        return tuple(talk for talk in self.talks if talk.tunnel != "none")

    # -- vantages ----------------------------------------------------------------------------------------------------------

    @cached_property
    def vantages(self) -> tuple[Vantage, ...]:
        """One per capture, told by the user or inferred."""
        return tuple(self._vantage(position) for position in range(len(self.table.captures)))

    def _vantage(self, position: int) -> Vantage:
        capture = self.table.captures[position]
        if capture.vantage is not None:
            node = _node_called(self.clusters, capture.vantage)
            if node is not None and not self._looks_like_a_sandbox(position):
                vtep = node.vtep if node.vtep is not None else self._inferred(position, capture.name).vtep
                return Vantage(capture.name, "node", node.name, vtep, inferred=False)
            endpoint = _endpoint_called(self.clusters, capture.vantage)
            if endpoint is not None:
                return Vantage(capture.name, "endpoint", endpoint.node, None, endpoint, inferred=False)
            network, _, at = capture.vantage.rpartition("@")
            if network and (node := _node_called(self.clusters, at)) is not None:
                # Inside the tunnel, yet no sandbox of an endpoint: frames of all of the node's endpoints in this network pass here.
                return Vantage(capture.name, "unknown", node.name, inferred=False, note=f"the overlay sandbox of {network} on {node.name}")
        return self._inferred(position, capture.name)

    def _looks_like_a_sandbox(self, position: int) -> bool:
        """No tunnel and no underlay address of the cluster: a capture that the user named after a node, but taken inside one of its sandboxes."""
        mine = [talk for talk in self.talks if talk.capture == position]
        known = {address for cluster in self.clusters for node in cluster.nodes for address in node.addresses}
        return bool(mine) and not any(talk.tunnel != "none" or talk.esp or talk.outer_src in known or talk.outer_dst in known for talk in mine)

    def _inferred(self, position: int, name: str) -> Vantage:
        mine = [talk for talk in self.talks if talk.capture == position]
        between = [talk for talk in mine if talk.tunnel != "none" or talk.esp]
        known = {address for cluster in self.clusters for address in cluster.vteps}
        if not between:
            between = [talk for talk in mine if talk.outer_src in known and talk.outer_dst in known] or [talk for talk in mine if talk.control]
        if between:
            total = sum(talk.frames for talk in between)
            share: dict[Address, int] = {}
            for talk in between:
                for address in {talk.outer_src, talk.outer_dst}:
                    if address is not None:
                        share[address] = share.get(address, 0) + talk.frames
            ranked = sorted(share.items(), key=lambda item: -item[1])
            # On a node's own interface every frame between VTEPs has the node at one end (a switch floods a few others at first).
            if ranked and ranked[0][1] >= 0.9 * total and (len(ranked) < 2 or ranked[1][1] < ranked[0][1]):
                vtep = ranked[0][0]
                return Vantage(name, "node", self.node_name(vtep), vtep, note=f"{vtep} is at one end of its {total:,} frames between nodes")
            called = _node_called(self.clusters, Path(name).name.split(".", 1)[0])
            if called is not None and called.vtep in share and share[called.vtep] >= 0.9 * total:
                return Vantage(name, "node", called.name, called.vtep, note="by its file name; its frames fit")
            if len(ranked) == 2:
                # Two nodes only: whose interface it is shows in what else is there.
                pair = [address for address, _ in ranked]
                others = [sum(talk.frames for talk in mine if address in (talk.outer_src, talk.outer_dst)) for address in pair]
                if others[0] != others[1]:
                    vtep = pair[0] if others[0] > others[1] else pair[1]
                    return Vantage(name, "node", self.node_name(vtep), vtep, note=f"{vtep} is in more of its frames than the other node")
            return Vantage(name, "segment", note="frames between several pairs of nodes, none of them in all")
        endpoint = self._endpoint_seen(mine)
        if endpoint is not None:
            return Vantage(
                name, "endpoint", endpoint.node, None, endpoint, note=f"no tunnel, and {endpoint.ip} of {endpoint.name} in most of its frames"
            )
        node = _node_called(self.clusters, self.table.captures[position].vantage or "") or _node_in(self.clusters, name)
        note = "no tunnel and no address of the cluster"
        if node is None:
            return Vantage(name, "unknown", note=note)
        return Vantage(name, "unknown", node.name, note=f"{note}; it is on {node.name} by its name")

    def _endpoint_seen(self, talks: Sequence[Talk]) -> Endpoint | None:
        """The endpoint in whose sandbox a capture without tunnels was taken: the task whose addresses, in all its networks, are in most frames."""
        by_task: dict[str, int] = {}
        of_task: dict[str, Endpoint] = {}
        for cluster in self.clusters:
            for endpoint in cluster.endpoints:
                # All nodes' load-balancer endpoints of a network have one name.
                own = endpoint.task or endpoint.container or f"{endpoint.name} on {endpoint.node}"
                frames = sum(talk.frames for talk in talks if talk.ip_src in endpoint.addresses or talk.ip_dst in endpoint.addresses)
                if frames:
                    by_task[own] = by_task.get(own, 0) + frames
                    of_task.setdefault(own, endpoint)
        if not by_task:
            return None
        ranked = sorted(by_task.items(), key=lambda item: -item[1])
        return of_task[ranked[0][0]] if len(ranked) < 2 or ranked[1][1] < ranked[0][1] else None

    def has_address(self, name: str, address: Address | None) -> npt.NDArray[np.bool_]:
        """Rows whose address column ("outer_ip_src", "inner_ip_dst", ...) is this address; None: rows without one."""
        high, low = self.stored(address) if address is not None else (np.uint64(0), np.uint64(0))
        found: npt.NDArray[np.bool_] = (self.table[f"{name}_hi"] == high) & (self.table[f"{name}_lo"] == low)
        return found

    @cached_property
    def capture_ends(self) -> tuple[int, ...]:
        """The time of each capture's last frame in ns; 0 for an empty one."""
        times = self.table["ts"]
        return tuple(int(times[rows].max()) if len(rows := self.rows_of_capture(i)) else 0 for i in range(len(self.table.captures)))

    def rows_of_capture(self, position: int) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self.table["capture"] == position)

    # -- connections -------------------------------------------------------------------------------------------------------

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """TCP connections of every capture, inside and outside tunnels, by their first frames. Needs connections.COLUMNS."""
        return connections(self)


def _node_called(clusters: Sequence[Cluster], name: str) -> Node | None:
    """By name, id, host name or address; or by the only node whose name ends so ("vm1" for "sathish-vm1")."""
    for cluster in reversed(clusters):
        for node in cluster.nodes:
            if name in (node.name, node.id, node.hostname) or name in (str(address) for address in node.addresses):
                return node
        ending = [node for node in cluster.nodes if node.name.endswith(("-" + name, "." + name)) or node.name.startswith(name + ".")]
        if len(ending) == 1:
            return ending[0]
    return None


def _node_in(clusters: Sequence[Cluster], path: str) -> Node | None:
    """The only node of which a part of a file's name speaks ("task-web-vm3.pcap": "sathish-vm3")."""
    words = re.split(r"[-_.\s]", Path(path).name)
    found = {node.name: node for word in words if word and (node := _node_called(clusters, word)) is not None}
    return next(iter(found.values())) if len(found) == 1 else None


def _endpoint_called(clusters: Sequence[Cluster], name: str) -> Endpoint | None:
    """By name, also with its node's before it ("vm1:web.2"), by address, or the beginning of a task's name ("web.2" for "web.2.7ov7vvohq...")."""
    for cluster in reversed(clusters):
        for endpoint in cluster.endpoints:
            names = (endpoint.name, f"{endpoint.node}:{endpoint.name}", endpoint.task, endpoint.container, str(endpoint.ip))
            if name in names or endpoint.name.startswith(name + "."):
                return endpoint
    return None


def v4(value: int) -> IPv4Address:
    """An address stored in 32 bits (ARP columns)."""
    return IPv4Address(value)
