"""The kernel performs steps: the one place where a lab's plan becomes links, addresses, rules and namespaces.

Knows for each kind of step which call makes it so (rtnetlink where there is a message, else a file of /proc, an ioctl, libnftables, and for the rare
ones the command itself), and how to leave nothing behind when one is refused. Plans nothing, and keeps nothing open between two calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shlex
import struct
import subprocess
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import groupby
from pathlib import Path
from threading import Event, Thread
from typing import Self

from vxtool.errors import LabError, MissingFeature
from vxtool.lab import conntrack, ethtool, ipvs, namespaces, netlink, nft
from vxtool.lab.netlink import Channel, Message
from vxtool.lab.steps import (
    AddAddress,
    AddBridge,
    AddFdb,
    AddNamespace,
    AddNeighbour,
    AddRoute,
    AddRules,
    AddTap,
    AddVeth,
    AddVxlan,
    AddXfrmPolicy,
    AddXfrmState,
    DeleteAddress,
    DeleteFdb,
    DeleteLink,
    DeleteNamespace,
    DeleteNeighbour,
    DeleteRoute,
    DeleteRules,
    DeleteXfrmPolicy,
    DeleteXfrmState,
    ForgetFlows,
    ForgetMac,
    MoveLink,
    ReplaceRules,
    SetBackends,
    SetDown,
    SetMaster,
    SetMtu,
    SetNoMaster,
    SetOffload,
    SetQdisc,
    SetSysctl,
    SetUp,
    Step,
    UnsetQdisc,
    inverses,
)

__all__ = ["Kernel"]

Entry = AddNeighbour | DeleteNeighbour | AddFdb | DeleteFdb | ForgetMac

OPEN_AT_A_TIME = 200
"""Namespaces that are open at a time, with a file and a socket each: by default a process may have 1,024 of them."""

LONGEST_COMMAND = 200
"""Characters of a step's command in an error; a table of rules has more."""

GONE = {errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.EEXIST}
"""How the kernel says that there is nothing left to take back, or (EEXIST) that what is to be put back was never taken away."""


class Kernel:
    """Performs steps in the namespaces whose names are in `folder`, as the mount namespace of the calling thread shows it."""

    def __init__(self, folder: Path = namespaces.NETNS) -> None:
        self._folder = folder

    def perform(self, steps: Sequence[Step]) -> None:
        """Performs all, in order, or none: when one is refused those before it are taken back, last first; so they are after an interrupt.

        LabError with the step's command, the kernel's words and what was taken back; MissingFeature in its place when the kernel lacks what the step
        needs, or the process the right to it.
        """
        done: list[Step] = []
        try:
            _apart(lambda stop: self._perform(steps, done, stop))
        except _Refused as refused:
            remains = self._take_back(done)
            raise refused.error(len(done), remains) from refused.why
        except BaseException:
            self._take_back(done)
            raise

    def undo(self, steps: Sequence[Step]) -> None:
        """Takes steps back, last first, also when only some of them were ever performed: what is gone already is passed over. It goes on after a
        refusal, and raises a LabError that names everything that remains."""
        remains = self._take_back(steps)
        if remains:
            raise LabError(f"cannot be taken back: {'; '.join(remains)}")

    def _perform(self, steps: Sequence[Step], done: list[Step], stop: Event) -> None:
        """Performs steps until one is refused or somebody says stop; `done` grows by what was performed."""
        with _Places(self._folder) as places:
            for group in _groups(steps):
                if stop.is_set():
                    return
                answers = list(zip(group, _attempt(places, group), strict=True))
                done += [step for step, why in answers if why is None]
                for step, why in answers:
                    if why is not None:
                        raise _Refused(step, why)

    def _take_back(self, steps: Sequence[Step]) -> list[str]:
        """What could not be taken back, a sentence each."""
        remains: list[str] = []

        def take_back(stop: Event) -> None:
            with _Places(self._folder) as places:
                for group in _groups(_without_the_doomed(inverses(steps))):
                    for step, why in zip(group, _attempt(places, group), strict=True):
                        if isinstance(why, MissingFeature) or (why is not None and why.errno not in GONE):
                            remains.append(f"{_command(step)}: {_words(why)}")

        _apart(take_back)
        return remains


def _apart(work: Callable[[Event], None]) -> None:
    """Runs `work` in a thread of its own and waits for it; what it raises is raised here.

    Handlers of signals raise in the main thread alone: so an interrupt never cuts a step in two, and the caller's thread is never where it is not at
    home. An interrupt meanwhile sets the event that `work` is given, which ends in its own time; then the interrupt is raised.
    """
    begun, stop, finished = Event(), Event(), Event()
    raised: list[BaseException] = []

    def run() -> None:
        begun.set()
        try:
            if not stop.is_set():
                work(stop)
        except BaseException as error:
            raised.append(error)
        finally:
            finished.set()

    thread = Thread(target=run, name="vxtool kernel")
    try:
        thread.start()
        finished.wait()  # not join: interrupted, it takes a running thread for ended (CPython issue 90882)
    except BaseException as error:
        stop.set()
        raised = [error]
    while begun.is_set() and not finished.is_set():
        with suppress(KeyboardInterrupt):
            finished.wait()
    if begun.is_set():
        thread.join()
    if raised:
        raise raised[0]


# -- in which order --------------------------------------------------------------------------------------------------------


def _groups(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Steps that may be sent together. Neighbour and forwarding entries that follow one another are grouped by namespace: an entry depends on its
    device alone, and on entries of the same namespace, whose order is kept. Every other step is a group of its own, because what comes after a
    refused one must not be tried: it might change what belongs to somebody else."""
    for are_entries, run in groupby(steps, key=lambda step: isinstance(step, Entry)):
        if not are_entries:
            yield from ([step] for step in run)
            continue
        by_namespace: dict[str, list[Step]] = {}
        for step in run:
            by_namespace.setdefault(step.namespace, []).append(step)
        yield from by_namespace.values()


def _without_the_doomed(steps: Iterable[Step]) -> list[Step]:
    """Leaves out steps all of whose namespaces are deleted later on: the kernel frees what is in them, in one go, where deleting link after link
    would take 10 ms each."""
    kept: list[Step] = []
    doomed: set[str] = set()
    for step in reversed(list(steps)):
        if isinstance(step, DeleteNamespace):
            doomed.add(step.namespace)
        elif not isinstance(step, AddNamespace) and _touched(step) <= doomed:
            continue
        kept.append(step)
    return kept[::-1]


def _touched(step: Step) -> set[str]:
    match step:
        case AddVeth():
            return {step.namespace, step.peer_namespace}
        case AddVxlan():
            return {step.namespace, step.underlay}
        case MoveLink():
            return {step.namespace, step.to}
        case DeleteLink(made=made) if made is not None:
            return {step.namespace} | _touched(made)
        case _:
            return {step.namespace}


# -- what is open ----------------------------------------------------------------------------------------------------------


class _Place:
    """A namespace in which steps are performed: its file, a channel to the kernel in it, and the numbers of its links."""

    def __init__(self, path: Path) -> None:
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise OSError(errno.ENOENT, f"there is no namespace {path.name}") from None
        try:
            with self.entered():
                self.channel = Channel()
        except OSError as error:
            os.close(self.fd)
            if error.errno == errno.EINVAL:  # a file on which nothing was mounted: whoever made it was killed
                raise OSError(errno.ENOENT, f"there is no namespace {path.name}") from None
            raise
        except BaseException:
            os.close(self.fd)
            raise
        self._indexes: dict[str, int] = {}

    def entered(self) -> AbstractContextManager[None]:
        return namespaces.inside(self.fd)

    def index(self, device: str) -> int:
        if device not in self._indexes:
            self._indexes[device] = self.channel.index(device)
        return self._indexes[device]

    def forget_indexes(self) -> None:
        self._indexes.clear()

    def close(self) -> None:
        self.channel.close()
        os.close(self.fd)


class _Places:
    """The namespaces used last, opened when they are asked for and closed at the end: an open file keeps a namespace alive after its name is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[str, _Place] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __getitem__(self, name: str) -> _Place:
        place = self._open.get(name)
        if place is None:
            while len(self._open) >= OPEN_AT_A_TIME:
                self._open.popitem(last=False)[1].close()
            place = self._open[name] = _Place(self.folder / name)
        self._open.move_to_end(name)
        return place

    def forget(self, name: str) -> None:
        if name in self._open:
            self._open.pop(name).close()

    def forget_indexes(self) -> None:
        for place in self._open.values():
            place.forget_indexes()


# -- performing ------------------------------------------------------------------------------------------------------------

Why = OSError | MissingFeature


def _attempt(places: _Places, group: Sequence[Step]) -> list[Why | None]:
    """Performs a group; for each of its steps why it was refused, or None."""
    try:
        if isinstance(group[0], Entry):
            return _enter(places[group[0].namespace], group)
        _one(places, group[0])
    except (OSError, MissingFeature) as why:
        return [why] * len(group)
    return [None]


def _enter(place: _Place, entries: Sequence[Step]) -> list[Why | None]:
    """Neighbour and forwarding entries of one namespace, all at once."""
    answers: list[Why | None] = [None] * len(entries)
    messages: list[Message] = []
    positions: list[int] = []
    for position, entry in enumerate(entries):
        try:
            messages.append(_message(place, entry))
            positions.append(position)
        except OSError as why:  # there is no such device
            answers[position] = why
    for sent, refusal in place.channel.send_all(messages).items():
        if not _settled(place, entries[positions[sent]], refusal):
            answers[positions[sent]] = refusal
    return answers


def _settled(place: _Place, entry: Step, refusal: OSError) -> bool:
    """Whether a refused entry is as it should be after all."""
    match entry:
        case ForgetMac():
            return refusal.errno == errno.ENOENT  # the bridge had learned nothing
        case AddFdb() if refusal.errno == errno.EEXIST and not place.channel.is_permanent(place.index(entry.device), entry.mac):
            # Learned from a frame that came before us; a permanent entry would be somebody's own.
            place.channel.send(netlink.replace_fdb(place.index(entry.device), entry.mac, entry.vtep))
            return True
        case _:
            return False


def _one(places: _Places, step: Step) -> None:
    """Performs one step by whatever mechanism is the step's. OSError or MissingFeature when it is refused; then nothing is changed."""
    match step:
        case AddNamespace():
            namespaces.create(step.namespace, places.folder)
        case DeleteNamespace():
            places.forget(step.namespace)
            namespaces.remove(step.namespace, places.folder)
        case SetSysctl():
            with places[step.namespace].entered(), suppress(*((FileNotFoundError,) if step.optional else ())):
                namespaces.sysctl(step.key, step.value)
        case AddTap():
            _add_tap(places[step.namespace], step)
        case SetOffload():
            ethtool.set_offload(places[step.namespace].channel, step.name, step.features, step.on)
        case AddRules():
            # `create` refuses a table that exists; without it the rules would be added to somebody else's.
            _load(places[step.namespace], f"create table {step.family} {step.table}\ntable {step.family} {step.table} {{\n{step.body}\n}}\n")
        case DeleteRules():
            _load(places[step.namespace], f"delete table {step.family} {step.table}\n")
        case ReplaceRules():
            _load(places[step.namespace], step.text() + "\n")
        case SetBackends():
            with places[step.namespace].entered():
                ipvs.set_backends(step.mark, step.backends, step.before)
        case ForgetFlows():
            with places[step.namespace].entered():
                conntrack.forget(step.backends, step.ports)
        case SetQdisc() | UnsetQdisc() | AddXfrmState() | DeleteXfrmState() | AddXfrmPolicy() | DeleteXfrmPolicy():
            _type(step)
        case AddVxlan():
            # Sent where its socket is to be, made where it is to be.
            there = None if step.namespace == step.underlay else places[step.namespace].fd
            made = netlink.Vxlan(step.vni, step.port)
            places[step.underlay].channel.send(netlink.add_link("vxlan", step.name, step.mtu, namespace=there, queue=0, data=made))
        case AddVeth():
            there = None if step.peer_namespace == step.namespace else places[step.peer_namespace].fd
            peer = netlink.Veth(step.peer, step.mtu, step.peer_mac, there, step.queue)
            places[step.namespace].channel.send(netlink.add_link("veth", step.name, step.mtu, step.mac, queue=step.queue, data=peer))
        case MoveLink():
            place = places[step.namespace]
            there = None if step.to == step.namespace else places[step.to].fd
            place.channel.send(netlink.move_link(place.index(step.name), step.new_name, there))
        case _:
            place = places[step.namespace]
            place.channel.send(_message(place, step))
    if isinstance(step, DeleteLink | MoveLink):
        places.forget_indexes()


def _message(place: _Place, step: Step) -> Message:
    """The one message that is this step, of those that concern one namespace alone. OSError when a device it names is not there."""
    match step:
        case AddNeighbour():
            return netlink.add_neighbour(place.index(step.device), step.address, step.mac)
        case DeleteNeighbour():
            return netlink.delete_neighbour(place.index(step.device), step.address, step.mac)
        case AddFdb():
            return netlink.add_fdb(place.index(step.device), step.mac, step.vtep)
        case DeleteFdb():
            return netlink.delete_fdb(place.index(step.device), step.mac, step.vtep)
        case ForgetMac():
            return netlink.forget_mac(place.index(step.device), step.mac)
        case AddBridge():
            data = None if step.default_pvid is None else netlink.Bridge(step.default_pvid)
            return netlink.add_link("bridge", step.name, step.mtu, step.mac, queue=step.queue, data=data)
        case DeleteLink():
            return netlink.delete_link(step.name)
        case SetMaster():
            return netlink.set_link(step.name, master=place.index(step.master))
        case SetNoMaster():
            return netlink.set_link(step.name, master=0)
        case SetUp():
            return netlink.set_link(step.name, up=True)
        case SetDown():
            return netlink.set_link(step.name, up=False)
        case SetMtu():
            return netlink.set_link(step.name, mtu=step.mtu)
        case AddAddress():
            return netlink.add_address(place.index(step.device), step.interface, step.broadcast)
        case DeleteAddress():
            return netlink.delete_address(place.index(step.device), step.interface)
        case AddRoute():
            return netlink.add_route(step.destination, step.via, place.index(step.device) if step.device else None)
        case DeleteRoute():
            return netlink.delete_route(step.destination, step.via, place.index(step.device) if step.device else None)
        case _:
            raise AssertionError(f"{type(step).__name__} is not one message")


# <linux/if_tun.h>
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x8000


def _add_tap(place: _Place, step: AddTap) -> None:
    try:
        # The device belongs to the namespace in which the file is opened; without PERSIST it goes when the file is closed.
        with place.entered(), open("/dev/net/tun", "r+b", buffering=0) as tun:
            flags = _IFF_TAP | _IFF_NO_PI | _IFF_TUN_EXCL
            try:
                fcntl.ioctl(tun, _TUNSETIFF, struct.pack("15sxH22x", step.name.encode(), flags))
            except OSError as why:  # of a name that is taken the driver says that it is busy
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST)) if why.errno == errno.EBUSY else why from None
            place.channel.send(netlink.set_link(step.name, mtu=step.mtu))
            fcntl.ioctl(tun, _TUNSETPERSIST, 1)
    except FileNotFoundError:
        raise MissingFeature("this kernel has no TAP devices (CONFIG_TUN: modprobe tun), or /dev/net/tun is not there") from None


def _load(place: _Place, text: str) -> None:
    with place.entered():
        complaint = nft.load(text)
    if complaint is not None:
        raise _said(complaint)


def _type(step: Step) -> None:
    """Runs the step's command: what is rare needs no second way of saying it."""
    for line in step.commands():
        words = shlex.split(line)
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        except FileNotFoundError:
            raise MissingFeature(f"the command {words[0]} is not there: apt install iproute2") from None
        if done.returncode:
            raise _said(done.stderr.strip().partition("\n")[0])


# -- refusals --------------------------------------------------------------------------------------------------------------

_NUMBERS = {os.strerror(number).lower(): number for number in errno.errorcode}

_SAID: Mapping[str, int] = {
    "cannot find device": errno.ENODEV,
    "specified qdisc kind is unknown": errno.EOPNOTSUPP,
    "cannot delete qdisc with handle of zero": errno.ENOENT,
    "invalid handle": errno.ENOENT,
    "exclusivity flag on, cannot modify": errno.EEXIST,
    "requested aead algorithm not found": errno.ENOSYS,
    "no such file or directory; did you mean": errno.ENOENT,  # nft, of a table that is there in another family
}
"""Sentences of ip, tc and nft that carry no name of an error, and the error they stand for."""


def _said(complaint: str) -> OSError:
    """What a command said, as the error it stands for."""
    complaint = complaint.removeprefix("RTNETLINK answers: ").removeprefix("Error: ").rstrip(".")
    words = complaint.lower()
    number = next((number for said, number in _SAID.items() if words.startswith(said)), None)
    return OSError(number or _NUMBERS.get(words.rpartition(": ")[2], 0), complaint)


_FEATURES: tuple[tuple[tuple[type[Step], ...], set[int], str], ...] = (
    ((AddVxlan,), {errno.EOPNOTSUPP}, "VXLAN (CONFIG_VXLAN: modprobe vxlan)"),
    ((AddVeth,), {errno.EOPNOTSUPP}, "veth (CONFIG_VETH: modprobe veth)"),
    ((AddBridge,), {errno.EOPNOTSUPP}, "bridges (CONFIG_BRIDGE: modprobe bridge)"),
    ((SetQdisc,), {errno.EOPNOTSUPP}, "this queueing discipline (CONFIG_NET_SCH_...: modprobe sch_...)"),
    ((SetBackends,), {errno.EOPNOTSUPP, errno.EPROTONOSUPPORT}, "IPVS with round robin (CONFIG_IP_VS, CONFIG_IP_VS_RR: modprobe ip_vs_rr)"),
    (
        (AddRules, ReplaceRules),
        {errno.EOPNOTSUPP, errno.EPROTONOSUPPORT},
        "nftables, or an expression of these rules (CONFIG_NF_TABLES, CONFIG_NFT_...)",
    ),
    (
        (AddXfrmState, AddXfrmPolicy),
        {errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOSYS},
        "IPsec with AES-GCM (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_GCM: modprobe esp4)",
    ),
)


class _Refused(Exception):
    """One step, and why."""

    def __init__(self, step: Step, why: Why) -> None:
        super().__init__(step, why)
        self.step, self.why = step, why

    def error(self, done: int, remains: Sequence[str]) -> LabError | MissingFeature:
        missing = _missing(self.step, self.why)
        undone = (
            "nothing was changed" if not done else f"the {done} steps before it are taken back" if done > 1 else "the step before it is taken back"
        )
        tail = f", but for {'; '.join(remains)}" if remains else ""
        text = f"{_command(self.step)}: {missing or _words(self.why)}; {undone}{tail}"
        return LabError(text) if missing is None else MissingFeature(text)


def _missing(step: Step, why: Why) -> str | None:
    """What the machine lacks, when that is why."""
    if isinstance(why, MissingFeature):
        return str(why)
    if why.errno in (errno.EPERM, errno.EACCES):
        return f"{_words(why)}: only root may do this (CAP_NET_ADMIN and CAP_SYS_ADMIN)"
    if isinstance(step, SetSysctl) and why.errno == errno.ENOENT and not re.search(r"\.(conf|neigh)\.", step.key):
        return f"this kernel has no setting {step.key}"
    for kinds, numbers, feature in _FEATURES:
        if isinstance(step, kinds) and why.errno in numbers:
            return f"this kernel lacks {feature}"
    return None


def _command(step: Step) -> str:
    """The step as a person would type it, on one line."""
    text = " ".join("; ".join(step.commands()).split())
    return text if len(text) <= LONGEST_COMMAND else f"{text[: LONGEST_COMMAND - 3]}..."


def _words(why: Why) -> str:
    text = str(why) if isinstance(why, MissingFeature) else why.strerror or str(why)
    return text[:1].lower() + text[1:]
