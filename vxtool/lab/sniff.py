"""Capturing at devices of a lab: packet sockets opened inside its namespaces, read from outside, their frames in the order of time.

Knows packet sockets and rings (packet(7), Documentation/networking/packet_mmap.rst); refuses to know what is in a frame and where a vantage comes
from. What it promises:

* when `Sniffer` is made, every ring is bound: no frame from then on is missed;
* a filter is attached before a socket is bound: nothing unfiltered slips in;
* what the kernel had no room for is counted, per vantage;
* after `stop()` everything that was in the rings is still handed out: the kernel's count of frames says how many there are.

    with Capture([Vantage("vm1", "eth0", running.path("vm1"))], to="vm1.pcapng") as capture:
        ...
    capture.statistics
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import select
import socket
import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from vxtool.capture import CaptureWriter, Frames, Interface
from vxtool.capture._ring import TAG_ROOM, RingScanner
from vxtool.capture.frames import INDEX, OPAQUE
from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab.bpf import NOTHING, compile_filter, everything
from vxtool.lab.namespaces import inside

__all__ = ["BUFFER", "Capture", "Recording", "Sniffer", "Statistics", "Vantage", "hurry"]

BUFFER = 32 << 20
"""Bytes of each device's ring, unless there are so many that they would exceed ALTOGETHER."""

ALTOGETHER = 512 << 20

BLOCK = 256 << 10
"""Bytes of a block of a ring. The longest frame must fit: that of segmentation offload has 64 KiB, and readers refuse more than 256 KiB (Wireshark's
WTAP_MAX_PACKET_SIZE_STANDARD)."""

RETIRE_MS = 30
"""After so long the kernel hands over a block that is not full: how late a frame is at most, and how long a stop takes. Not shorter, because a
trickle of frames then uses up a block each time: with 128 blocks the reader may sleep for four seconds."""

LATE_NS = 2 * RETIRE_MS * 1_000_000
"""Frames older than this have been handed over by every ring, or there were none."""

NAP_MS = 5
"""How often rings are looked at while frames wait for those of other rings. Not by poll(2), which would return at once: blocks are ready."""

GATHER_MS = 2
"""A round costs 0.1 ms, however much is there: while frames keep coming, this is waited for more of them."""

ROUND = 16
"""Most blocks of a ring that are handed out together: 4 MiB, so that the kernel gets them back soon."""

NEVER: Mapping[int, int] = MappingProxyType({})

FOREVER = (1 << 63) - 1

PATIENCE = 2.0
"""Seconds to wait, after a stop, for frames that the kernel has counted and not handed over."""

URGENT = -10
"""Nice value of a thread that captures: on a busy machine it goes before the programs whose frames it takes, which are slowed down instead."""

_ETH_P_ALL = 0x0003
_SOL_PACKET, _SO_ATTACH_FILTER = 263, 26
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _RESERVE, _IGNORE_OUTGOING = 1, 5, 6, 10, 12, 23  # <linux/if_packet.h>
_TPACKET_V3, _MR_PROMISC = 2, 1
_SIOCGIFHWADDR, _SIOCGIFINDEX, _SIOCETHTOOL = 0x8927, 0x8933, 0x8946
_ETHERNET, _LOOPBACK = 1, 772  # ARPHRD_*: frames of both have Ethernet headers
_OFFLOADS = {"tx": 0x16, "rx": 0x14, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}  # ETHTOOL_GTXCSUM and so on, as ethtool -K calls them

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_MAP_FIXED = 0x10


@dataclass(frozen=True, slots=True)
class Vantage:
    """A device to capture at. Frames of several devices of one place have one vantage name, as decode and verify understand it."""

    place: str  # "vm1", "web.1", "web@vm1"
    device: str
    namespace: Path  # that can be entered from here
    about: str | None = None  # for people who look into the file: "node vm1 of lab demo"

    def __str__(self) -> str:
        return f"{self.place}/{self.device}"


@dataclass(frozen=True, slots=True)
class Statistics:
    """What came of one vantage."""

    vantage: Vantage
    frames: int  # handed out
    dropped: int  # for which the kernel had no room in the ring
    received: int  # that passed the filter: after a stop the sum of the two, but for frames beyond the `count` that was asked for
    gone: bool = False  # the device does not exist any more


class Sniffer:
    """Rings at several devices. Iterate `frames`, from one thread; `stop` may be called from any thread and from signal handlers.

    A context manager: leaving it closes the sockets. UsageError for a device that is not there or a filter that makes no sense, MissingFeature
    without the right to capture, LabError when the kernel refuses.
    """

    def __init__(self, vantages: Sequence[Vantage], *, filter: str | None = None, snaplen: int = 0, buffer: int | None = None) -> None:
        """filter: as for tcpdump. snaplen: bytes kept of each frame, 0 for all. buffer: bytes of each device's ring."""
        if not vantages:
            raise UsageError("there is nothing to capture at")
        size = min(BUFFER, ALTOGETHER // len(vantages)) if buffer is None else buffer
        blocks = max(2, size // BLOCK)
        self.vantages = tuple(vantages)
        self.places = tuple(dict.fromkeys(vantage.place for vantage in vantages))
        self.begun_ns = 0
        self._number = 0  # frames handed out
        self._stopped = False
        self._patience = 0.0  # the moment, after a stop, when missing frames are given up
        self._last: tuple[Statistics, ...] = ()
        self._end_wanted = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._memory = _Memory(len(vantages) * blocks * BLOCK)
        self._rings: list[_Ring] = []
        try:
            program = _program(vantages[0], filter, snaplen)
            for vantage in vantages:
                place = self.places.index(vantage.place)
                self._rings.append(_Ring(vantage, self._memory, blocks, program, snaplen, interface=len(self._rings), place=place))
            self.begun_ns = time.time_ns()
            for ring in self._rings:
                ring.bind()
        except BaseException:
            self.close()
            raise
        system = f"{platform.system()} {platform.release()}"
        self.interfaces = tuple(
            Interface(1, str(ring.vantage), ring.vantage.about or ring.vantage.place, snaplen, system, filter, f"offloads: {ring.offloads}")
            for ring in self._rings
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._last = self.statistics
        for ring in self._rings:
            ring.close()
        self._rings = []
        if self._end_wanted >= 0:
            os.close(self._end_wanted)
            self._end_wanted = -1

    def stop(self) -> None:
        """Take no more frames; those that are in the rings are still handed out."""
        if self._end_wanted >= 0:
            os.eventfd_write(self._end_wanted, 1)

    @property
    def statistics(self) -> tuple[Statistics, ...]:
        """Of each vantage, so far."""
        return tuple(ring.statistics() for ring in self._rings) or self._last

    def frames(
        self, *, count: int | None = None, seconds: float | None = None, idle: float | None = None, until: Mapping[int, int] = NEVER
    ) -> Iterator[Frames]:
        """Frames as they come, earliest first, until `stop`, or after `count` of them, after so many `seconds`, when for `idle` seconds there was
        none, when every device has gone, or at an event of `until` (file descriptor -> events of poll(2): a reader gone, a process ended).

        **The memory of a batch is the kernel's again when the next one is asked for.** Where a ring is about to overflow, its frames do not wait for
        those of others: not losing any comes first, their order second.
        """
        now = quiet_since = time.monotonic()
        deadline = None if seconds is None else now + seconds
        waker = select.poll()
        for descriptor, events in {self._end_wanted: select.POLLIN, **until}.items():
            waker.register(descriptor, events)
        while True:
            batch = self._round(count)
            if batch is not None:
                yield batch
                quiet_since = time.monotonic()
            for ring in self._rings:
                ring.give_back()
            if self._number == count or (self._stopped and batch is None and self._drained()):
                return
            if not self._stopped:
                ends = [moment for moment in (deadline, None if idle is None else quiet_since + idle) if moment is not None]
                if self._wait(waker, batch is not None, min(ends, default=None)) or all(ring.gone for ring in self._rings):
                    self._refuse_more()

    def _round(self, count: int | None) -> Frames | None:
        """What is ready, in order, as one batch."""
        settled = min(ring.fill() for ring in self._rings)
        horizon = max(settled, max((int(ring.keys[-1]) for ring in self._rings if ring.crowded), default=0))
        taken = [ring.take(horizon) for ring in self._rings]
        parts = [(index, keys) for index, keys in taken if len(keys)]
        if not parts:
            return None
        index = parts[0][0]
        if len(parts) > 1:
            order = np.argsort(np.concatenate([keys for _, keys in parts]), kind="stable")
            index = np.concatenate([part.view(OPAQUE) for part, _ in parts])[order].view(INDEX)
        if count is not None:
            index = index[: count - self._number]
        index["frame"] = np.arange(self._number + 1, self._number + 1 + len(index))
        self._number += len(index)
        for ring, handed in zip(self._rings, np.bincount(index["interface"], minlength=len(self._rings)).tolist(), strict=True):
            ring.handed += handed
        return Frames(self._memory.bytes, index, self.interfaces, self.places)

    def _wait(self, waker: select.poll, busy: bool, until: float | None) -> bool:
        """Sleep until there may be more, not beyond the moment `until`. True when the capture is to end."""
        waiting = any(ring.waiting for ring in self._rings)
        patience = 0.0 if busy else NAP_MS / 1000 if waiting else None
        if busy and all(ring.scanned < ROUND // 2 for ring in self._rings):
            time.sleep(GATHER_MS / 1000)
        left = None if until is None else max(0.0, until - time.monotonic())
        timeout = min((each for each in (left, patience) if each is not None), default=None)
        rings = {ring.watched(waker, not waiting): ring for ring in self._rings}
        for descriptor, event in waker.poll(None if timeout is None else timeout * 1000):
            if descriptor not in rings:
                return True
            if event & (select.POLLERR | select.POLLHUP):
                rings[descriptor].look()
        return until is not None and time.monotonic() >= until

    def _refuse_more(self) -> None:
        self._stopped = True
        for ring in self._rings:
            ring.attach(NOTHING)
        # Another processor may still be about to store a frame that passed the filter before. Unbinding waits until every processor has finished what
        # it was at (synchronize_net in packet_do_bind), so after one of these no frame is on its way into any ring.
        any(ring.unbind() for ring in self._rings)
        for ring in self._rings:
            ring.close_the_books()
        self._patience = time.monotonic() + PATIENCE

    def _drained(self) -> bool:
        """After a stop: whether all is handed out that the kernel has counted. It hands over the last block of a ring when its time is up."""
        if any(ring.missing for ring in self._rings) and time.monotonic() < self._patience:
            time.sleep(RETIRE_MS / 10_000)
            return False
        return not any(ring.waiting for ring in self._rings)


class _Ring:
    """The packet socket at one device, its ring, and what of it waits to be handed out."""

    def __init__(self, vantage: Vantage, memory: _Memory, blocks: int, program: bytes, snaplen: int, *, interface: int, place: int) -> None:
        self.vantage = vantage
        self.gone = False
        self.handed = 0
        self.scanned = 0  # blocks, in the last round
        self.keys = np.empty(0, np.int64)  # of the frames that wait: the time by which they are ordered, never less than that of one before
        self._index = np.empty(0, INDEX)  # these frames
        self._ends: list[int] = []  # for each block that is held, where its frames end in `_index`
        self._taken = 0  # frames of `_index` in the batch that is being handed out
        self._latest = 0
        self._accepted = self._dropped = 0  # by the kernel's count
        self._counted_at = time.monotonic()
        self._closed = False  # no frame is added any more
        self._snaplen = snaplen
        self._memory = memory
        self._blocks = blocks
        self._size = blocks * BLOCK
        self._start = interface * self._size
        self._events: int | None = None  # what poll(2) was asked for
        try:
            with inside(vantage.namespace):
                # Protocol 0: until it is bound it receives nothing, and by then the ring and the filter are there.
                self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError as error:
            raise MissingFeature(f"{vantage}: capturing needs root (the right to enter its namespace, and CAP_NET_RAW)") from error
        except OSError as error:
            raise LabError(f"{vantage} cannot be captured at: {error.strerror}") from error
        try:
            self._number = self._find()
            self.offloads = self._read_offloads()
            self._set(_VERSION, _TPACKET_V3)
            self._set(_RESERVE, TAG_ROOM)
            if self._hardware() == _LOOPBACK:
                self._set(_IGNORE_OUTGOING, 1)  # what leaves there also arrives there
            self._set(_RX_RING, struct.pack("=7I", BLOCK, blocks, BLOCK, blocks, RETIRE_MS, 0, 0))
            memory.map(self._start, self._size, self.socket.fileno())
            self.attach(program)
            self.scanner = RingScanner(memory.bytes, start=self._start, size=BLOCK, blocks=blocks, interface=interface, vantage=place)
        except OSError as error:
            self.socket.close()
            why = f"{self._size >> 20} MB are more than the kernel gives; make --buffer smaller" if error.errno == errno.ENOMEM else error.strerror
            raise LabError(f"{vantage} cannot be captured at: {why}") from error
        except BaseException:
            self.socket.close()
            raise

    # -- the socket --------------------------------------------------------------------------------------------------------

    def bind(self) -> None:
        """From here on frames are captured."""
        try:
            # A bridge shows what it forwards only to those who want everything. The kernel takes the wish back with the socket.
            self._set(_ADD_MEMBERSHIP, struct.pack("=iHH8x", self._number, _MR_PROMISC, 0))
            self.socket.bind((self.vantage.device, _ETH_P_ALL))
        except OSError as error:
            raise LabError(f"{self.vantage} cannot be captured at: {error.strerror}") from error

    def unbind(self) -> bool:
        """Whether it was bound."""
        try:
            self.socket.bind((self.vantage.device, 0))
        except OSError:  # the device has gone, and the socket is bound no more
            return False
        return True

    def attach(self, program: bytes) -> None:
        held = ctypes.create_string_buffer(program, len(program))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(held)))

    def close(self) -> None:
        self._memory.unmap(self._start, self._size)
        self.socket.close()

    def watched(self, waker: select.poll, ready: bool) -> int:
        """Its file descriptor, watched for ready blocks or (`ready` False) only for trouble."""
        events = select.POLLIN if ready else 0
        if events != self._events:
            self._events = events
            waker.register(self.socket, events)
        return self.socket.fileno()

    def look(self) -> None:
        """There was trouble: a device that goes down may come up again, one that was deleted never comes back."""
        self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            self.gone = struct.unpack("i", self._ask(_SIOCGIFINDEX)[:4])[0] != self._number
        except OSError:
            self.gone = True

    def _find(self) -> int:
        """The device's number. UsageError when there is no such device, or when its frames are not Ethernet."""
        try:
            (number,) = struct.unpack("i", self._ask(_SIOCGIFINDEX)[:4])
        except OSError as error:
            with inside(self.vantage.namespace):
                there = ", ".join(name for _, name in socket.if_nameindex())
            raise UsageError(f"{self.vantage.place} has no device {self.vantage.device!r}; it has {there}") from error
        if self._hardware() not in (_ETHERNET, _LOOPBACK):
            raise UsageError(f"{self.vantage} carries no Ethernet frames (its hardware type is {self._hardware()}), and only those can be captured")
        return int(number)

    def _hardware(self) -> int:
        return int(struct.unpack("=H", self._ask(_SIOCGIFHWADDR)[:2])[0])

    def _read_offloads(self) -> str:
        """As ethtool says it: "tx on, rx on, tso on, gso on, gro off"; what the device does not know is left out."""
        words = []
        for name, command in _OFFLOADS.items():
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)
            try:
                self._ask(_SIOCETHTOOL, struct.pack("P", ctypes.addressof(value)))
            except OSError:
                continue
            words.append(f"{name} {'on' if struct.unpack('=II', value.raw)[1] else 'off'}")
        return ", ".join(words) or "unknown"

    def _ask(self, request: int, data: bytes = b"") -> bytes:
        """An ioctl about the device, in the socket's own namespace: what follows the name in struct ifreq."""
        return fcntl.ioctl(self.socket, request, struct.pack("16s24s", os.fsencode(self.vantage.device)[:15], data))[16:]

    def _set(self, option: int, value: int | bytes) -> None:
        self.socket.setsockopt(_SOL_PACKET, option, value)

    # -- its frames --------------------------------------------------------------------------------------------------------

    def fill(self) -> int:
        """Scan blocks that are ready. Returns the time before which nothing more will come from here."""
        # The clock first: what came in before it, and is not there yet, is less than LATE_NS old.
        now = time.time_ns()
        index, ends = self.scanner.scan(ROUND)
        self.scanned = len(ends)
        if len(index):
            if self._snaplen:  # a tag that was put back counts
                np.minimum(index["caplen"], self._snaplen, out=index["caplen"])
            keys = np.maximum(np.maximum.accumulate(index["ts"]), self._latest)
            self._latest = int(keys[-1])
            self._ends += [len(self._index) + end for end in ends]
            self._index = np.concatenate([self._index.view(OPAQUE), index.view(OPAQUE)]).view(INDEX) if len(self._index) else index
            self.keys = np.concatenate([self.keys, keys]) if len(self.keys) else keys
        if time.monotonic() - self._counted_at > 60:  # the kernel's counters have 32 bits
            self._count()
        if len(ends) == ROUND:
            return self._latest
        return FOREVER if self._closed and not self.missing else max(self._latest, now - LATE_NS)

    def take(self, horizon: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
        """The frames up to this time, and the times by which they are ordered."""
        self._taken = int(np.searchsorted(self.keys, horizon, side="right"))
        return self._index[: self._taken], self.keys[: self._taken]

    def give_back(self) -> None:
        """What was taken has been used: the kernel gets its blocks."""
        done = bisect_right(self._ends, self._taken)
        self.scanner.release(done)
        self._ends = [end - self._taken for end in self._ends[done:]]
        self._index, self.keys = self._index[self._taken :], self.keys[self._taken :]
        self._taken = 0

    @property
    def waiting(self) -> bool:
        """Whether frames wait for those of other rings."""
        return len(self.keys) > 0

    @property
    def crowded(self) -> bool:
        """Whether what waits is too much: then it does not wait any longer."""
        return self.waiting and self.scanner.held > self._blocks // 2

    # -- its books ---------------------------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Reading the kernel's counters sets them to zero."""
        packets, drops, _ = struct.unpack("=3I", self.socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        self._accepted += packets - drops
        self._dropped += drops
        self._counted_at = time.monotonic()

    def close_the_books(self) -> None:
        self._count()
        self._closed = True

    @property
    def missing(self) -> int:
        """Frames that the kernel has counted and not handed over yet."""
        return self._accepted - self.scanner.frames

    def statistics(self) -> Statistics:
        if not self._closed:
            self._count()
        lost = max(0, self.missing) if self._closed else 0  # the kernel never handed them over: said, not hidden
        return Statistics(self.vantage, self.handed, self._dropped + lost, self._accepted + self._dropped, self.gone)


class _Memory:
    """One stretch of addresses in which every ring has its part, so that frames of several rings can be in one `Frames` without being copied.

    Whoever still holds an array of it after a part was unmapped finds zeros there.
    """

    def __init__(self, size: int) -> None:
        self.bytes = np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)

    def map(self, start: int, size: int, descriptor: int) -> None:
        self._map(start, size, mmap.MAP_SHARED, descriptor)

    def unmap(self, start: int, size: int) -> None:
        self._map(start, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)

    def _map(self, start: int, size: int, flags: int, descriptor: int) -> None:
        address = self.bytes.ctypes.data + start
        if _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags | _MAP_FIXED, descriptor, 0) != address:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def hurry() -> None:
    """Lets the calling thread go before the programs whose traffic it captures: they may wait, the ring cannot."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), URGENT)


def _program(vantage: Vantage, filter: str | None, snaplen: int) -> bytes:
    if filter is None:
        return everything(snaplen)
    with inside(vantage.namespace):
        return compile_filter(filter, snaplen)


# --------------------------------------------------------------------------------------------------------------------
# Into files
# --------------------------------------------------------------------------------------------------------------------


class Recording:
    """A capture file for a sniffer's frames: it says from the start where it was taken, and at the end what is missing.

    `place`: only the frames from there. The file is pcapng unless its name ends in .pcap.
    """

    def __init__(self, path: str | os.PathLike[str], sniffer: Sniffer, place: str | None = None) -> None:
        name = os.fspath(path)
        self._writer = CaptureWriter(name, form="pcap" if name.lower().endswith(".pcap") else "pcapng")
        self._sniffer = sniffer
        self._only = None if place is None else sniffer.places.index(place)
        self._numbers: dict[Vantage, int] = {}
        for position, (vantage, interface) in enumerate(zip(sniffer.vantages, sniffer.interfaces, strict=True)):
            if place in (None, vantage.place):
                self._numbers[vantage] = self._writer.announce(position, interface, vantage.place)
        self._writer.flush()

    def write(self, frames: Frames) -> None:
        self._writer.write(frames if self._only is None else frames.select(frames.index["vantage"] == self._only))
        self._writer.flush()

    def finish(self) -> None:
        """The counts of each interface, and the end of the file."""
        now = time.time_ns()
        for one in self._sniffer.statistics:
            if one.vantage in self._numbers:
                number = self._numbers[one.vantage]
                self._writer.statistics(number, begun_ns=self._sniffer.begun_ns, ended_ns=now, received=one.received, dropped=one.dropped)
        self._writer.close()


class Capture:
    """A capture in the background: `with Capture(vantages, to="x.pcapng"):` captures what happens inside the block, all of it and nothing else.

    `statistics` are there afterwards. What goes wrong meanwhile (a full disk) is raised at the end.
    """

    def __init__(
        self,
        vantages: Sequence[Vantage],
        *,
        to: str | os.PathLike[str],
        filter: str | None = None,
        snaplen: int = 0,
        buffer: int | None = None,
    ) -> None:
        """Captures from here on. Arguments and errors as of `Sniffer`; CaptureError when the file cannot be written."""
        self.statistics: tuple[Statistics, ...] = ()
        self._failure: BaseException | None = None
        self._sniffer = Sniffer(vantages, filter=filter, snaplen=snaplen, buffer=buffer)
        try:
            self._recording = Recording(to, self._sniffer)
        except BaseException:
            self._sniffer.close()
            raise
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        hurry()
        try:
            for frames in self._sniffer.frames():
                self._recording.write(frames)
            self._recording.finish()
        except BaseException as error:
            self._failure = error
        self.statistics = self._sniffer.statistics

    def stop(self) -> tuple[Statistics, ...]:
        """Everything that was captured up to now is in the file when this returns."""
        self._sniffer.stop()
        self._thread.join()
        self._sniffer.close()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return self.statistics

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop()
        except Exception:
            if error is None:  # else it would hide what went wrong first
                raise
