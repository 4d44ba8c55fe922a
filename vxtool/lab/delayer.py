"""The delayer: a process that carries the frames of slow links, each a while later than it came.

Knows two devices per link and a queue for each direction; no plan and no lab. Where the kernel has no netem, `lab/impair.py` takes a switch's port
out of its bridge and puts a TAP device there; frames cross between the two through here:

    far end == port    packet socket  ->  queue  ->  TAP    in the bridge
                       packet socket  <-  queue  <-  TAP

One process carries all links of a lab, and lives in the namespace of the switches. The supervisor tells it which links there are, over an abstract
unix socket, by which a new supervisor also finds the delayer of the last one and notices when it has died: one JSON object a line,

    {"relays": [{"link": "vm1-s1", "port": "s1-eth1", "tap": "tap0", "delay_ms": 20.0, "mtu": 1500, "queue": null}]}
    {"carried": {"vm1-s1": {"frames": 812, "dropped": 0, "late_us": 41}}}    or    {"error": "..."}

It ends when there is none left. Times are CLOCK_MONOTONIC; order is kept, also when a delay becomes shorter; a queue that is full drops and counts.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic, monotonic_ns, sleep
from typing import Any

from vxtool.errors import LabError
from vxtool.lab.namespaces import NETNS, inside

__all__ = ["Delayers", "Relay"]

ADDRESS = "\0vxtool-delayer"
"""Abstract (unix(7)): it belongs to the network namespace in which it was bound, one for each lab, and goes with its last holder."""

PATIENCE = 10.0  # seconds for an answer, which takes milliseconds
QUEUE_BYTES = 16 << 20  # per direction: 1.3 Gbit/s at 100 ms
BOOKKEEPING = 160  # bytes that Python adds to a frame in a queue
BATCH = 64  # frames read at once before the others have their turn
FRAME = 64  # room beside the MTU: Ethernet, VLAN tags

# <linux/if_ether.h>, <linux/if_packet.h>, <linux/if_tun.h>, <sys/timerfd.h>: what Python's socket module does not name
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_AUXDATA = 8
PACKET_IGNORE_OUTGOING = 23
AUXDATA = struct.Struct("=IIIHHHH")  # status, len, snaplen, mac, net, vlan_tci, vlan_tpid
VLAN_VALID, VLAN_TPID_VALID = 1 << 4, 1 << 6
TUNSETIFF = 0x400454CA
TUNGETIFF = 0x800454D2
IFF_TAP_NO_PI = 0x1002
TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
TFD_TIMER_ABSTIME = 1
CLOCK_MONOTONIC = 1


@dataclass(frozen=True, slots=True)
class Relay:
    """A link that is delayed: frames cross between the two devices, both in the namespace of the switches."""

    link: str
    port: str  # the switch's end of the link, taken out of its bridge
    tap: str  # what stands in the bridge instead
    delay_ms: float
    mtu: int
    queue: int | None = None  # frames each direction holds; None: as many as fit QUEUE_BYTES


# -- the supervisor's side ---------------------------------------------------------------------------------------------


class Delayers:
    """The delayer as its supervisor sees it: started when there is something to carry, told what, and told again when it has died.

    `fileno()` becomes readable when the delayer has died, since it never speaks unasked: call `follow` again then. What was in its queues is lost.
    """

    def __init__(self, namespace: str = "switches") -> None:
        self._namespace = NETNS / namespace
        self._relays: tuple[Relay, ...] = ()
        self._connection: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def fileno(self) -> int:
        """-1 when no delayer runs."""
        return -1 if self._connection is None else self._connection.fileno()

    def follow(self, relays: Iterable[Relay]) -> dict[str, dict[str, int]]:
        """From now on these links are delayed, and no others. Returns what was carried: frames, dropped and the worst lateness (us) of each link.

        The devices must be there. A delayer that a former supervisor has started is taken over. LabError when it cannot be done.
        """
        self._relays = tuple(relays)
        for _ in range(2):  # the second time when one had died that nobody missed
            if self._connection is None:
                with inside(self._namespace):
                    self._connection = self._find() or (self._start() if self._relays else None)
            if self._connection is None:
                return {}
            try:
                return self._tell(self._connection)
            except TimeoutError:
                raise LabError(f"the delayer has not answered for {PATIENCE:.0f} s") from None
            except (ConnectionError, EOFError):
                self._forget()
        raise LabError("the delayer ends as soon as it is started; the lab's log says why")

    def _find(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(ADDRESS)
        except ConnectionRefusedError:
            connection.close()
            return None
        return connection

    def _start(self) -> socket.socket | None:
        with socket.socket(socket.AF_UNIX) as server:
            self._bind(server)
            server.listen()
            self._child = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(server.fileno())],
                pass_fds=[server.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # no Ctrl-C that is meant for another
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            return self._find()  # it waits in the queue until the delayer looks

    @staticmethod
    def _bind(server: socket.socket) -> None:
        """The address is taken for the milliseconds that the last delayer needs to end."""
        deadline = monotonic() + PATIENCE
        while True:
            try:
                return server.bind(ADDRESS)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or monotonic() > deadline:
                    raise LabError(f"the delayer cannot be started: {(error.strerror or str(error)).lower()}") from error
            sleep(0.005)

    def _tell(self, connection: socket.socket) -> dict[str, dict[str, int]]:
        connection.sendall(json.dumps({"relays": [asdict(relay) for relay in self._relays]}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            line = lines.readline()
        if not line:
            raise EOFError
        answer = json.loads(line)
        if not self._relays:
            self._forget()
        if "error" in answer:
            raise LabError(answer["error"])
        carried: dict[str, dict[str, int]] = answer["carried"]
        return carried

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(PATIENCE)
            self._child = None


# -- the delayer's side ------------------------------------------------------------------------------------------------


class _Way:
    """One direction of a link."""

    def __init__(self, take: Callable[[], bytes], give: Callable[[bytes], object], relay: Relay) -> None:
        self.take = take
        self.give = give
        self.adjust(relay)
        self.queue: deque[tuple[int, bytes]] = deque()
        self.held = 0
        self.frames = self.dropped = self.late_ns = 0

    def adjust(self, relay: Relay) -> None:
        self.delay_ns = round(relay.delay_ms * 1e6)
        self.room = relay.queue or QUEUE_BYTES  # a frame is a byte at least

    def read(self) -> bool:
        """Takes what has come, a batch at most. False when the device is gone."""
        take, queue, delay_ns = self.take, self.queue, self.delay_ns
        for _ in range(BATCH):
            try:
                frame = take()
            except BlockingIOError:
                break
            except OSError as error:
                return error.errno in (errno.ENETDOWN, errno.EIO)  # down is not gone
            if self.held > QUEUE_BYTES or len(queue) >= self.room:
                self.dropped += 1
            else:
                # The clock is read after the frame, so that none is early. One that is due before those in front of it (the delay has become shorter)
                # waits for its turn all the same.
                queue.append((monotonic_ns() + delay_ns, frame))
                self.held += len(frame) + BOOKKEEPING
        return True

    def release(self, now: int) -> None:
        """Gives what is due."""
        queue, give = self.queue, self.give
        late = now - queue[0][0]
        if late > self.late_ns:
            self.late_ns = late
        while queue and queue[0][0] <= now:
            frame = queue.popleft()[1]
            self.held -= len(frame) + BOOKKEEPING
            try:
                give(frame)
                self.frames += 1
            except OSError:  # the device is down, or what it sends into is full: a frame lost, as on any wire
                self.dropped += 1


class _Carrier:
    """A relay at work: both devices open, both directions queued."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", relay.tap.encode(), IFF_TAP_NO_PI))
            # Protocol 0 until it is bound: it must not see a frame of another device.
            self.port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except BaseException:
            os.close(self.tap)
            raise
        try:
            self.port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            self.port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self.port.setsockopt(socket.SOL_SOCKET, option + 25, 8 << 20)  # SO_*BUFFORCE, which socket does not name, are 25 further
            self.port.bind((relay.port, ETH_P_ALL))
        except BaseException:
            self.close()
            raise
        size = relay.mtu + FRAME
        tap, port = self.tap, self.port
        self.inward = _Way(lambda: _received(port, size), lambda frame: os.write(tap, frame), relay)
        self.outward = _Way(lambda: os.read(tap, size), port.send, relay)
        self.ways = {self.port.fileno(): self.inward, self.tap: self.outward}

    def adjust(self, relay: Relay) -> None:
        self.relay = relay
        for way in self.ways.values():
            way.adjust(relay)

    @property
    def alive(self) -> bool:
        """Whether the devices it has opened are still those of that name."""
        try:
            fcntl.ioctl(self.tap, TUNGETIFF, bytearray(40))
            return bool(self.port.getsockname()[0] == self.relay.port)
        except OSError:
            return False

    def carried(self) -> dict[str, int]:
        ways = self.ways.values()
        late = max(way.late_ns for way in ways) // 1000
        return {"frames": sum(way.frames for way in ways), "dropped": sum(way.dropped for way in ways), "late_us": late}

    def close(self) -> None:
        os.close(self.tap)
        self.port.close()


def _received(port: socket.socket, size: int) -> bytes:
    """A frame as it was on the wire: the kernel has put its VLAN tag aside (packet(7), PACKET_AUXDATA)."""
    frame, notes, _, _ = port.recvmsg(size, 64)
    if notes:
        status, _, _, _, _, tci, tpid = AUXDATA.unpack(notes[0][2])
        if status & VLAN_VALID:
            return frame[:12] + struct.pack("!HH", tpid if status & VLAN_TPID_VALID else 0x8100, tci) + frame[12:]
    return frame


class _Timer:
    """A timerfd: epoll alone counts in milliseconds. Python has os.timerfd_create from 3.13 on."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._when = (ctypes.c_long * 4)()  # struct itimerspec: interval, value
        self._set = 0

    def set(self, when: int) -> None:
        """Nanoseconds of CLOCK_MONOTONIC; 0: never."""
        if when != self._set:
            self._set = when
            self._when[2], self._when[3] = divmod(when, 1_000_000_000)
            self._libc.timerfd_settime(self.descriptor, TFD_TIMER_ABSTIME, self._when, None)

    def clear(self) -> None:
        self._set = 0
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)


class _Delayer:
    """All links of a lab in one loop."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._timer = _Timer()
        self._epoll = select.epoll()
        self._epoll.register(server, select.EPOLLIN)
        self._epoll.register(self._timer.descriptor, select.EPOLLIN)
        self._carriers: dict[str, _Carrier] = {}
        self._ways: dict[int, _Way] = {}
        self._speakers: dict[int, tuple[socket.socket, bytearray]] = {}
        self._wanted = True

    def run(self) -> None:
        poll, ways, timer = self._epoll.poll, self._ways, self._timer
        waiting: set[_Way] = set()
        while self._wanted:
            for descriptor, _ in poll():
                way = ways.get(descriptor)
                if way is not None:
                    if not way.read():
                        self._epoll.unregister(descriptor)  # until the supervisor says what is there now
                    if way.queue:
                        waiting.add(way)
                elif descriptor == timer.descriptor:
                    timer.clear()
                else:
                    self._control(descriptor)
                    waiting.intersection_update(ways.values())
            now = monotonic_ns()
            for way in [way for way in waiting if way.queue[0][0] <= now]:
                way.release(now)
                if not way.queue:
                    waiting.discard(way)
            timer.set(min((way.queue[0][0] for way in waiting), default=0))

    def _control(self, descriptor: int) -> None:
        if descriptor == self._server.fileno():
            connection, _ = self._server.accept()
            self._speakers[connection.fileno()] = (connection, bytearray())
            self._epoll.register(connection, select.EPOLLIN)
            return
        connection, said = self._speakers[descriptor]
        try:
            more = connection.recv(1 << 16)
        except ConnectionError:
            more = b""
        if not more:  # a supervisor has died; the links stay as they are until the next one speaks
            self._epoll.unregister(descriptor)
            del self._speakers[descriptor]
            connection.close()
            return
        said += more
        while (end := said.find(b"\n")) >= 0:
            line = bytes(said[:end])
            del said[: end + 1]
            with suppress(ConnectionError):
                connection.sendall(json.dumps(self._follow(json.loads(line))).encode() + b"\n")

    def _follow(self, message: dict[str, Any]) -> dict[str, Any]:
        wanted = {relay.link: relay for relay in (Relay(**given) for given in message["relays"])}
        carried = {link: carrier.carried() for link, carrier in self._carriers.items()}
        for link, carrier in list(self._carriers.items()):
            relay = wanted.get(link)
            if relay is None or not carrier.alive or (relay.port, relay.tap, relay.mtu) != (carrier.relay.port, carrier.relay.tap, carrier.relay.mtu):
                self._drop(link)
            elif relay != carrier.relay:
                carrier.adjust(relay)
        failed = []
        for link, relay in wanted.items():
            if link not in self._carriers:
                try:
                    self._carry(relay)
                except OSError as error:
                    failed.append(f"{link}: the delayer cannot open {relay.port} and {relay.tap}: {(error.strerror or str(error)).lower()}")
        self._wanted = bool(wanted)
        return {"error": "; ".join(failed)} if failed else {"carried": carried}

    def _carry(self, relay: Relay) -> None:
        carrier = _Carrier(relay)
        self._carriers[relay.link] = carrier
        for descriptor, way in carrier.ways.items():
            self._ways[descriptor] = way
            self._epoll.register(descriptor, select.EPOLLIN)

    def _drop(self, link: str) -> None:
        carrier = self._carriers.pop(link)
        for descriptor in carrier.ways:
            del self._ways[descriptor]
            with suppress(FileNotFoundError):  # let go of already: its device was gone
                self._epoll.unregister(descriptor)
        carrier.close()


def main() -> None:
    """Started by `Delayers`, with the number of the socket to listen at."""
    server = socket.socket(fileno=int(sys.argv[1]))
    with suppress(OSError):  # a container may not; frames are then a little later when the machine is busy
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    # Nothing here makes cycles; a collection in the middle of a burst is a delay that nobody asked for.
    gc.collect()
    gc.freeze()
    gc.disable()
    _Delayer(server).run()


if __name__ == "__main__":
    main()
