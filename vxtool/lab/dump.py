"""The state of network namespaces as text and as JSON, and all of a lab's in one archive.

Knows which commands tell it and how to ask them quickly of a thousand namespaces; what their words mean is records.py's. The text is that of `ip`,
`bridge`, `ss` and the others themselves, because people read it and other dumps (of a real engine) are compared with it:

    === NODE SANDBOX
    ip -d link, ip addr, ip neigh, bridge fdb, ip route, ip rule, iptables-save, ipvsadm -Ln, ss -lntup,
    nft list ruleset, ip xfrm state, ip xfrm policy, tc qdisc, sysctl

A command that has nothing to tell is not started: four processes an ordinary sandbox. Children do it, one for each processor, each in a mount
namespace of its own where /run/netns shows the namespaces of one node: so `ip` prints `link-netns vm1:web.1` instead of a number.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import shutil
import socket
import struct
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab import namespaces
from vxtool.lab.namespaces import CLONE_NEWNS, MNT_DETACH, MS_BIND, MS_PRIVATE, MS_REC, NETNS

if TYPE_CHECKING:
    from vxtool.lab.registry import Running

__all__ = ["Namespace", "State", "archive", "as_text", "of_engine", "of_lab", "read"]

SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.conn_reuse_mode",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.ipv4.neigh.default.gc_thresh1",
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv6.conf.all.disable_ipv6",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
)
"""What matters to an overlay; those that a kernel or a namespace has not got are left out."""

NO_SOCKETS = "Netid State Recv-Q Send-Q Local Address:Port Peer Address:PortProcess\n"
"""What `ss -lntup` prints when there is none."""

_NODE_DETAILS = ("addr", "neigh", "route", "rule")
_JSON = ("links", "neighbours", "routes", "rules")
_LOOPBACK = "1: lo: <"  # the first link of every namespace
_IN_USE = re.compile(r"^(?:TCP|UDP)6?: inuse [1-9]", re.MULTILINE)
_INODE = re.compile(r"\s+(?:uid:\d+ )?ino:(\d+) sk:\S+.*$", re.MULTILINE)
_OTHER_QDISC = re.compile(r" qdisc (?!noqueue|noop)")
_IPTABLES = re.compile(r"table ip6? (?:nat|filter|mangle|raw|security) ")
_NETLINK_NETFILTER = 12
_GET_TABLES = (10 << 8) | 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE
_REQUEST_DUMP = 0x301
_DONE = 3


@dataclass(frozen=True, slots=True)
class Namespace:
    """`name` as a file of the engine or the lab calls it; of a node's own namespace it is the node's name."""

    node: str
    name: str
    path: Path

    @property
    def is_node(self) -> bool:
        return self.name == self.node

    @property
    def full_name(self) -> str:
        return self.node if self.is_node else f"{self.node}:{self.name}"


@dataclass(frozen=True, slots=True)
class State:
    """What one namespace is like. `errors`: what commands complained of, each line once."""

    namespace: Namespace
    text: str
    json: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def as_text(states: Iterable[State]) -> str:
    """One after another, each under its `=== NODE NAME`."""
    return "".join(f"=== {state.namespace.node} {state.namespace.name}\n{state.text}" for state in states)


# --------------------------------------------------------------------------------------------------------------------
# Which namespaces there are
# --------------------------------------------------------------------------------------------------------------------


def of_lab(lab: Running) -> list[Namespace]:
    """Every namespace of a lab: nodes and what is on them side by side."""
    return in_folder(lab.root / "run/netns")


def in_folder(folder: Path) -> list[Namespace]:
    """The namespaces whose names are in a folder, `NODE` and `NODE:SANDBOX`, those of a node together and its own first."""
    found = []
    for path in folder.iterdir():
        node, _, name = path.name.partition(":")
        found.append(Namespace(node, name or node, path))
    return sorted(found, key=lambda namespace: (namespace.node, not namespace.is_node, namespace.name))


def of_engine(which: str) -> list[Namespace]:
    """A Docker engine's: its node's namespace and its sandboxes. `which` is the process id of dockerd, or a file of the network namespace it is in.

    UsageError when there is no such process or file, or nothing of an engine.
    """
    pid = int(which) if which.isdigit() else _engine_in(Path(which))
    root = Path(f"/proc/{pid}/root")
    if not root.exists():
        raise UsageError(f"--engine {which}: there is no process {pid} that could be looked into")
    own = Namespace(f"engine-{pid}", f"engine-{pid}", Path(f"/proc/{pid}/ns/net"))
    folder = next((place for place in (root / "run/docker/netns", root / "var/run/docker/netns") if place.is_dir()), None)
    if folder is None:
        raise UsageError(f"--engine {which}: process {pid} has no folder /run/docker/netns, where an engine keeps its sandboxes")
    # `default` is the node's own namespace under another name: what runs with --network host.
    return [own, *(Namespace(own.node, path.name, path) for path in sorted(folder.iterdir()) if path.name != "default")]


def _engine_in(file: Path) -> int:
    try:
        wanted = file.stat()
    except OSError as error:
        raise UsageError(f"--engine {file}: {(error.strerror or str(error)).lower()}; a process id or a network namespace's file is wanted") from None
    for process in Path("/proc").iterdir():
        try:
            if (
                process.name.isdigit()
                and (process / "comm").read_text().strip() == "dockerd"
                and os.path.samestat((process / "ns/net").stat(), wanted)
            ):
                return int(process.name)
        except OSError:  # it has ended meanwhile
            continue
    raise UsageError(f"--engine {file}: no dockerd is in that network namespace")


# --------------------------------------------------------------------------------------------------------------------
# Asking
# --------------------------------------------------------------------------------------------------------------------


def read(wanted: Sequence[Namespace], *, keys: bool = False, with_json: bool = True) -> list[State]:
    """The state of these namespaces, in their order. `keys`: with the keys of ESP, which are otherwise left out.

    A namespace that goes away meanwhile is told with an error in its place. MissingFeature without root or without iproute2.
    """
    for tool, package in (("ip", "iproute2"), ("bridge", "iproute2"), ("ss", "iproute2")):
        if shutil.which(tool) is None:
            raise MissingFeature(f"the state of a network is told by {tool}, which is not installed: apt install {package}")
    if os.geteuid() != 0:
        raise MissingFeature("only root may enter the network namespaces of others: put sudo in front")
    sockets = _processes_of_sockets()
    nodes = [list(group) for _, group in groupby(wanted, key=lambda namespace: namespace.node)]
    shares = [share for number in range(min(os.cpu_count() or 1, len(nodes))) if (share := nodes[number :: os.cpu_count() or 1])]
    answers = [_in_child(share, keys, with_json, sockets) for share in shares]
    found = {state.namespace: state for pid, answer in answers for state in _collected(pid, answer)}
    return [found[namespace] for namespace in wanted]


def _in_child(nodes: Sequence[Sequence[Namespace]], keys: bool, with_json: bool, sockets: Mapping[str, str]) -> tuple[int, int]:
    """Starts a child; its answer is pickled into a file in memory, (process id, file)."""
    answer = os.memfd_create("vxtool-dump")
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid, answer
    try:
        states = _Reader(keys, with_json, sockets).nodes(nodes)
        with os.fdopen(answer, "wb") as file:
            pickle.dump(states, file)
    except BaseException as error:  # told by the parent; a child that raised would go on as a second vxtool
        with os.fdopen(answer, "wb") as file:
            pickle.dump(error, file)
    finally:
        os._exit(0)


def _collected(pid: int, answer: int) -> list[State]:
    os.waitpid(pid, 0)
    with os.fdopen(answer, "rb") as file:
        file.seek(0)
        states = pickle.load(file)
    if isinstance(states, BaseException):
        raise LabError(f"the state cannot be read: {states}") from states
    assert isinstance(states, list)
    return states


class _Reader:
    """In a child: goes through namespaces and asks. The child ends afterwards; it never comes back to where it was."""

    def __init__(self, keys: bool, with_json: bool, sockets: Mapping[str, str]) -> None:
        self.keys = keys
        self.with_json = with_json
        self.sockets = sockets
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.out = os.memfd_create("out", os.MFD_CLOEXEC)
        self.complaints = os.memfd_create("err", os.MFD_CLOEXEC)
        self.batch = os.memfd_create("in", os.MFD_CLOEXEC)

    def nodes(self, nodes: Sequence[Sequence[Namespace]]) -> list[State]:
        # All are opened before /run/netns is covered: that is where the names may be.
        opened = [[(namespace, _opened(namespace.path)) for namespace in node] for node in nodes]
        namespaces.unshare(CLONE_NEWNS)
        namespaces.mount("", "/", flags=MS_REC | MS_PRIVATE)
        NETNS.mkdir(exist_ok=True)
        return [state for node in opened for state in self.node(node)]

    def node(self, node: Sequence[tuple[Namespace, int | OSError]]) -> Iterator[State]:
        namespaces.mount("tmpfs", NETNS, "tmpfs")
        for namespace, fd in node:
            if isinstance(fd, int):
                (NETNS / namespace.full_name).touch()
                namespaces.mount(f"/proc/self/fd/{fd}", NETNS / namespace.full_name, flags=MS_BIND)
        for namespace, fd in node:
            if isinstance(fd, int):
                namespaces.setns(fd)
                yield self.state(namespace)
                os.close(fd)
            else:
                yield State(namespace, f"# {namespace.full_name}: {fd.strerror}\n", errors=(f"{namespace.full_name}: {fd.strerror}",))
        namespaces.umount(NETNS, MNT_DETACH)

    def state(self, namespace: Namespace) -> State:
        os.ftruncate(self.complaints, 0)
        os.lseek(self.complaints, 0, os.SEEK_SET)
        links = self.ask("ip", "-d", "link")
        # One `ip` for four questions; the fifth is there to be found again: the forwarding database stands where its answer is.
        above, _, below = self.ask_ip("addr", "neigh", "link show dev lo", "route", "rule").rpartition(_LOOPBACK)
        forwarding = self.ask("bridge", "fdb")
        text = links + above + forwarding + below.partition("\n")[2].partition("\n")[2]
        told: dict[str, Any] = {}
        if self.with_json:
            told |= zip(_JSON, _documents(self.ask_ip(*_NODE_DETAILS, options=("-j", "-d"))), strict=False)
            told["fdb"] = [_entry(line.split()) for line in forwarding.splitlines()]
        rules = self.ask("nft", "list", "ruleset") if _has_rules() else ""
        if _IPTABLES.search(rules) or _first_line("/proc/thread-self/net/ip_tables_names"):
            text += self.ask("iptables-save")
        text += self.ask("ipvsadm", "-Ln") + self.ask_sockets() + rules
        if rules and self.with_json:
            told["nft"] = next(_documents(self.ask("nft", "-j", "list", "ruleset")), {"nftables": []})["nftables"]
        if namespace.is_node and os.path.exists("/proc/thread-self/net/xfrm_stat"):
            text += self.ask_ip("xfrm state list" if self.keys else "xfrm state list nokeys", "xfrm policy list")
        if _OTHER_QDISC.search(links):
            text += self.ask("tc", "qdisc")
            if self.with_json:
                told["qdiscs"] = next(_documents(self.ask("tc", "-j", "qdisc")), [])
        told["sysctls"] = {key: value for key in SYSCTLS if (value := _first_line("/proc/sys/" + key.replace(".", "/")))}
        text += "".join(f"{key} = {value}\n" for key, value in told["sysctls"].items())
        os.lseek(self.complaints, 0, os.SEEK_SET)
        complaints = os.read(self.complaints, 1 << 16).decode(errors="replace").splitlines()
        return State(namespace, text, told, tuple(dict.fromkeys(f"{namespace.full_name}: {line}" for line in complaints)))

    def ask_ip(self, *lines: str, options: Sequence[str] = ()) -> str:
        """Several questions of one `ip`; after one that fails it goes on."""
        os.ftruncate(self.batch, 0)
        os.pwrite(self.batch, "".join(f"{line}\n" for line in lines).encode(), 0)
        os.lseek(self.batch, 0, os.SEEK_SET)
        return self.ask("ip", *options, "-force", "-batch", "-", stdin=self.batch)

    def ask(self, tool: str, *arguments: str, stdin: int | None = None) -> str:
        """What a command prints; "" of one that is not installed."""
        program = _found(tool)
        if program is None:
            return ""
        os.ftruncate(self.out, 0)
        os.lseek(self.out, 0, os.SEEK_SET)
        redirected: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, self.out, 1), (os.POSIX_SPAWN_DUP2, self.complaints, 2)]
        redirected.append((os.POSIX_SPAWN_DUP2, stdin, 0) if stdin is not None else (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
        os.waitpid(os.posix_spawn(program, [tool, *arguments], {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")}, file_actions=redirected), 0)
        size = os.lseek(self.out, 0, os.SEEK_END)
        return os.pread(self.out, size, 0).decode(errors="replace")

    def ask_sockets(self) -> str:
        """`ss -lntup`, whose search for processes would read the whole of /proc in each namespace: it has been read once, before."""
        if not _has_sockets():
            return NO_SOCKETS
        return _INODE.sub(lambda match: f" {self.sockets.get(match[1], '')}".rstrip(), self.ask("ss", "-lntue"))


def _opened(path: Path) -> int | OSError:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error


@cache
def _found(tool: str) -> str | None:
    return shutil.which(tool)


def _entry(words: Sequence[str]) -> dict[str, Any]:
    """A line of `bridge fdb` as `bridge -j fdb` has it; not worth another process for each namespace."""
    entry: dict[str, Any] = {"mac": words[0], "flags": []}
    rest = iter(words[1:])
    for word in rest:
        if word in ("permanent", "static", "stale"):
            entry["state"] = word
        elif word in ("self", "router", "sticky", "extern_learn", "offload"):
            entry["flags"].append(word)
        else:
            entry[{"dev": "ifname"}.get(word, word)] = next(rest, "")
    return entry


def _documents(text: str) -> Iterator[Any]:
    """JSON documents one after another, as `ip -j -batch` prints them."""
    decoder, place = json.JSONDecoder(), 0
    while (start := next((number for number in range(place, len(text)) if not text[number].isspace()), None)) is not None:
        document, place = decoder.raw_decode(text, start)
        yield document


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip().replace("\t", " ")
    except OSError:
        return ""


def _has_sockets() -> bool:
    """By the namespace's own counters: the tables of sockets are the machine's, and reading them through takes a millisecond each."""
    found = ""
    for counters in ("sockstat", "sockstat6"):
        try:
            found += Path("/proc/thread-self/net", counters).read_text()
        except OSError:  # a kernel without IPv6
            continue
    return _IN_USE.search(found) is not None


def _has_rules() -> bool:
    """Whether the namespace has an nftables table, asked in 0.05 ms: `nft` takes 3."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asking:
            asking.send(struct.pack("=IHHIIBBH", 20, _GET_TABLES, _REQUEST_DUMP, 1, 0, 0, 0, 0))
            (kind,) = struct.unpack_from("=H", asking.recv(8192), 4)
            return bool(kind != _DONE)
    except OSError:  # a kernel without nftables
        return False


def _processes_of_sockets() -> dict[str, str]:
    """The inode of each open socket -> `users:(("httpd",pid=2064,fd=3))`, as `ss -p` prints it, for all processes in one go."""
    found: dict[str, list[str]] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = None
            for fd in os.listdir(process / "fd"):
                target = os.readlink(process / "fd" / fd)
                if target.startswith("socket:["):
                    name = name or (process / "comm").read_text().rstrip("\n")
                    found.setdefault(target[8:-1], []).append(f'("{name}",pid={process.name},fd={fd})')
        except OSError:  # it, or one of its files, has gone meanwhile
            continue
    return {inode: f"users:({','.join(users)})" for inode, users in found.items()}


# --------------------------------------------------------------------------------------------------------------------
# The archive
# --------------------------------------------------------------------------------------------------------------------

README = """\
The state of lab {name} on {host}, {when}: {namespaces} network namespaces, read in {seconds:.1f} s.

state-NODE.txt    each namespace of NODE under `=== NODE NAME`, as these commands print it:
                  ip -d link; ip addr; ip neigh; bridge fdb; ip route; ip rule; iptables-save; ipvsadm -Ln; ss -lntup;
                  nft list ruleset; ip xfrm state, policy (of nodes); tc qdisc (where one is set); sysctl
                  NAME is NODE for the node itself, 1-.. an overlay network's sandbox, lb_.. a load balancer's, anything else an endpoint's.
state-NODE.json   the same as JSON: namespace -> links (ip -j -d addr), neighbours, fdb, routes, rules, nft, qdiscs, sysctls
lab.json          what the lab says of itself: topology, cluster, impairments
processes.txt     every process of the lab
mounts.txt        the mounts that only the lab sees
machine.json      kernel, versions, and what `vxtool doctor` finds
log               the supervisor's
{notes}
Compare a node with another one:  vxtool lab compare NODE {folder}.tar.gz
"""


def archive(
    file: Any, lab: Running, states: Sequence[State], *, described: Mapping[str, Any] | None, seconds: float, notes: Sequence[str] = ()
) -> None:
    """Writes everything that is known of a lab as one compressed tar into an open binary file. `described` is the supervisor's answer to `state`."""
    folder = f"{lab.name}-dump"
    notes = [*notes, *(error for state in states for error in state.errors)]
    readme = README.format(
        name=lab.name,
        host=socket.gethostname(),
        when=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        namespaces=len(states),
        seconds=seconds,
        notes="".join(f"\n{note}" for note in ["", "What was not told:", *notes]) + "\n" if notes else "",
        folder=folder,
    )
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as tar:

        def put(name: str, text: str) -> None:
            member = tarfile.TarInfo(f"{folder}/{name}")
            data = text.encode(errors="surrogateescape")
            member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
            tar.addfile(member, io.BytesIO(data))

        put("README.txt", readme)
        if described is not None:
            put("lab.json", _json(described))
        for node, group in groupby(states, key=lambda state: state.namespace.node):
            told = list(group)
            put(f"state-{node}.txt", as_text(told))
            put(f"state-{node}.json", _json({state.namespace.full_name: state.json for state in told}))
        put("processes.txt", _processes(lab, [state.namespace for state in states]))
        put("mounts.txt", _mounts(lab))
        put("machine.json", _json(_machine()))
        log = lab.folder / "log"
        put("log", log.read_text(errors="surrogateescape") if log.exists() else "")


def in_archive(path: Path) -> dict[str, str]:
    """The `state-NODE.txt` of an archive: node -> text. UsageError when it is none of ours."""
    try:
        with tarfile.open(path) as tar:
            members = [member for member in tar if re.fullmatch(r"[^/]+/state-[^/]+\.txt", member.name)]
            texts = {member.name.rsplit("/state-", 1)[1].removesuffix(".txt"): tar.extractfile(member) for member in members}
            found = {node: file.read().decode(errors="replace") for node, file in texts.items() if file is not None}
    except (tarfile.TarError, EOFError) as error:
        raise UsageError(f"{path}: not a whole archive of `vxtool lab dump` ({error})") from None
    if not found:
        raise UsageError(f"{path}: an archive without state-NODE.txt; `vxtool lab dump` writes such ones")
    return found


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _processes(lab: Running, known: Sequence[Namespace]) -> str:
    """A line a process: its id as the machine and as the lab sees it, whose child it is, user, memory, namespace, command."""
    try:
        ours = os.readlink(f"/proc/{lab.leader}/ns/pid")
    except OSError:
        return ""
    where = {}
    for namespace in known:
        try:
            where[namespace.path.stat().st_ino] = namespace.full_name
        except OSError:
            continue
    lines = ["   PID IN-LAB  PARENT   UID      RSS  NAMESPACE                        COMMAND"]
    for process in sorted((path for path in Path("/proc").iterdir() if path.name.isdigit()), key=lambda path: int(path.name)):
        try:
            told = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
            numbers = told["NSpid"].split()
            if os.readlink(process / "ns/pid") != ours and not (len(numbers) > 1 and _below(process, ours)):
                continue
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="surrogateescape").strip() or f"[{told['Name']}]"
            place = where.get((process / "ns/net").stat().st_ino, "-")
        except (OSError, KeyError, ValueError):  # it has ended meanwhile
            continue
        inside = numbers[1] if len(numbers) > 1 else numbers[0]
        memory = told.get("VmRSS", "0 kB")
        lines.append(f"{process.name:>6} {inside:>6} {told['PPid']:>7} {told['Uid'].split()[0]:>5} {memory:>10}  {place:<32} {command}")
    return "\n".join(lines) + "\n"


def _below(process: Path, namespace: str) -> bool:
    """Whether an ancestor of the process is in that pid namespace: endpoints may have pid namespaces of their own inside the lab's."""
    number = process.name
    while number not in ("0", "1"):
        try:
            if os.readlink(f"/proc/{number}/ns/pid") == namespace:
                return True
            number = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return False
    return False


def _mounts(lab: Running) -> str:
    """Mounts that the lab sees and the machine does not."""

    def points(pid: str | int) -> dict[str, str]:
        lines = Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape").splitlines()
        return {" ".join(line.split()[3:5]): line for line in lines}

    try:
        machine = points("self")
        return "".join(f"{line}\n" for point, line in points(lab.leader).items() if point not in machine)
    except OSError:
        return ""


def _machine() -> dict[str, Any]:
    from vxtool import __version__
    from vxtool.lab import doctor

    kernel = os.uname()
    return {
        "vxtool": __version__,
        "python": sys.version.split()[0],
        "kernel": {"release": kernel.release, "version": kernel.version, "machine": kernel.machine},
        "features": doctor.as_document(doctor.examine())["features"],
    }
