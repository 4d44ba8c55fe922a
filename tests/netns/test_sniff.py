"""What is captured in a lab is what crossed the device: all of it, as it was, and nothing else. The witness is tcpdump, which shares no code with us.

Each test makes its own two nodes and the one link between them.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vxtool.capture import open_capture
from vxtool.errors import CaptureError, LabError, UsageError
from vxtool.lab import sniff
from vxtool.lab.namespaces import NETNS, inside
from vxtool.lab.sniff import Capture, Recording, Sniffer, Vantage

if TYPE_CHECKING:
    from tests.netns.conftest import World

OWN, OTHER = Vantage("vm1", "eth0", NETNS / "vm1"), Vantage("vm2", "eth0", NETNS / "vm2")
HEAD = bytes.fromhex("0242c0a8446e 0242c0a8446d 88b5")  # an EtherType for experiments: nobody answers it (IEEE 802)

PAIR = """
ip netns add vm1; ip netns add vm2
for vm in vm1 vm2; do
    ip netns exec $vm sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    ip -n $vm link set lo up
done
ip -n vm1 link add eth0 address 02:42:c0:a8:44:6d type veth peer name eth0 address 02:42:c0:a8:44:6e netns vm2
ip -n vm1 addr add 192.168.68.109/24 dev eth0; ip -n vm2 addr add 192.168.68.110/24 dev eth0
ip -n vm1 link set eth0 up; ip -n vm2 link set eth0 up
ip -n vm1 neigh add 192.168.68.110 lladdr 02:42:c0:a8:44:6e dev eth0 nud permanent
ip -n vm2 neigh add 192.168.68.109 lladdr 02:42:c0:a8:44:6d dev eth0 nud permanent
"""


def numbered(count: int, size: int = 60) -> list[bytes]:
    """Frames that can be told apart."""
    return [(HEAD + struct.pack(">I", number)).ljust(size, b".") for number in range(count)]


def sender(node: str = "vm1") -> socket.socket:
    with inside(NETNS / node):
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        out.bind(("eth0", 0))
    return out


def send(frames: list[bytes], node: str = "vm1") -> None:
    with sender(node) as out:
        for frame in frames:
            out.send(frame)


def seen(path: Path, place: str | None = None) -> list[bytes]:
    """The bytes of every frame, of one place or of all."""
    with open_capture(path) as capture:
        return [frames.bytes_of(i) for frames in capture for i in range(len(frames)) if place in (None, frames.vantages[frames.index["vantage"][i]])]


def test_what_was_sent_before_the_end_is_in_the_file_although_the_end_comes_at_once(world: World, tmp_path: Path) -> None:
    world.sh(PAIR)
    for count in (1, 2, 100, 3000):
        with Capture([OWN], to=tmp_path / "x.pcapng") as capture:
            send(numbered(count))
        assert seen(tmp_path / "x.pcapng") == numbered(count)
        (one,) = capture.statistics
        assert (one.frames, one.dropped, one.received, one.gone) == (count, 0, count, False)


def test_both_ends_of_a_link_are_in_one_file_each_with_all_frames_and_in_the_order_of_time(world: World, tmp_path: Path) -> None:
    world.sh(PAIR)
    with Capture([OWN, OTHER], to=tmp_path / "x.pcapng"):
        with sender() as out:
            for frame in numbered(200):  # over more than one block of the rings
                out.send(frame)
                time.sleep(0.001)
        send(numbered(3000))
    assert seen(tmp_path / "x.pcapng", "vm1") == seen(tmp_path / "x.pcapng", "vm2") == numbered(200) + numbered(3000)
    with open_capture(tmp_path / "x.pcapng") as capture:
        times = np.concatenate([frames.index["ts"] for frames in capture])
        assert [interface.name for interface in capture.interfaces] == ["vm1/eth0", "vm2/eth0"]
        assert capture.damage == []
    assert (np.diff(times) >= 0).all()
    assert abs(int(times[-1]) - time.time_ns()) < 60e9


def tagged(count: int) -> list[bytes]:
    """The numbered frames in VLAN 5 with priority 1. The receiver's kernel takes the tag off before anybody sees the frame."""
    return [frame[:12] + bytes.fromhex("81002005") + frame[12:] for frame in numbered(count)]


def stream(amount: int) -> None:
    """So many bytes by TCP from vm1 to vm2, in superframes of segmentation offload."""
    with inside(NETNS / "vm2"):
        server = socket.create_server(("192.168.68.110", 5001))
    with inside(NETNS / "vm1"):
        client = socket.socket()
    with server, client:
        client.connect(("192.168.68.110", 5001))
        accepted, _ = server.accept()
        with accepted:
            writer = threading.Thread(target=client.sendall, args=(bytes(amount),))
            writer.start()
            while amount:
                amount -= len(accepted.recv(1 << 20))
            writer.join()


def tcpdump(path: Path, *words: str) -> subprocess.Popen[str]:
    """The witness, when it is ready."""
    command = ["ip", "netns", "exec", "vm2", "tcpdump", "-i", "eth0", "-n", "-Z", "root", "-U", "--immediate-mode", "-B", "65536"]
    running = subprocess.Popen([*command, "-w", str(path), *words], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if "listening on" in line:
            return running
    raise AssertionError("tcpdump has ended")


def entries(path: Path) -> list[tuple[int, bytes]]:
    """Length on the wire and bytes of each frame."""
    with open_capture(path) as capture:
        return [(int(frames.index["wirelen"][i]), frames.bytes_of(i)) for frames in capture for i in range(len(frames))]


@pytest.mark.parametrize(
    ("filter", "snaplen", "tags"),
    [
        (None, 0, 4),
        (None, 64, 4),
        ("vlan 5", 0, 4),
        ("icmp or vlan 6", 0, 0),
        ("ether proto 0x88b5 or (vlan and ether proto 0x88b5)", 20, 4),
        ("tcp port 5001", 96, 0),
    ],
)
def test_tcpdump_beside_us_sees_the_same_frames_byte_for_byte(world: World, tmp_path: Path, filter: str | None, snaplen: int, tags: int) -> None:
    world.sh(PAIR)
    witness = tcpdump(tmp_path / "t.pcap", "-s", str(snaplen), *([filter] if filter else []))
    with Capture([OTHER], to=tmp_path / "x.pcapng", filter=filter, snaplen=snaplen):
        world.sh("ip netns exec vm1 ping -q -c 3 -i 0.01 192.168.68.110 >/dev/null")
        send(numbered(3) + tagged(4))
        stream(3_000_000)
        time.sleep(0.2)  # until the connection is closed at both ends
    time.sleep(0.2)
    witness.send_signal(signal.SIGINT)
    witness.communicate()
    ours, theirs = entries(tmp_path / "x.pcapng"), entries(tmp_path / "t.pcap")
    assert len(ours) == len(theirs) > 3
    # Two frames that cross the device at once, one each way on two processors, may stand in either order in two rings.
    assert sorted(ours) == sorted(theirs)
    assert [data for _, data in ours if data[12:14] == b"\x81\x00"] == [frame[: snaplen or None] for frame in tagged(tags)]
    if filter is None:
        assert max(wirelen for wirelen, _ in ours) > 20_000  # a superframe of segmentation offload


def test_a_filter_lets_in_nothing_else_from_the_first_frame_on(world: World, tmp_path: Path) -> None:
    """While somebody floods the device with other frames, from before the beginning to after the end."""
    world.sh(PAIR)
    over = threading.Event()

    def flood() -> None:
        with sender() as out:
            while not over.is_set():
                out.send(numbered(1)[0])

    other = threading.Thread(target=flood)
    other.start()
    try:
        for _ in range(5):
            with Capture([OWN], to=tmp_path / "x.pcapng", filter="ether proto 0x88b6"):
                send([HEAD[:12] + b"\x88\xb6" + bytes(46)] * 3)
            assert seen(tmp_path / "x.pcapng") == [HEAD[:12] + b"\x88\xb6" + bytes(46)] * 3
    finally:
        over.set()
        other.join()
    with open_capture(tmp_path / "x.pcapng") as capture:
        list(capture)
        assert capture.interfaces[0].filter == "ether proto 0x88b6"


def test_what_there_is_no_room_for_is_counted(world: World, tmp_path: Path) -> None:
    """A sniffer with two blocks of memory that looks away while ten thousand frames pass."""
    world.sh(PAIR)
    with Sniffer([OWN, OTHER], buffer=2 * sniff.BLOCK) as sniffer:
        recording = Recording(tmp_path / "x.pcapng", sniffer)
        send(numbered(10_000))
        sniffer.stop()
        for frames in sniffer.frames():
            recording.write(frames)
        recording.finish()
        statistics = sniffer.statistics
    for one, place in zip(statistics, ("vm1", "vm2"), strict=True):
        assert one.frames + one.dropped == one.received == 10_000
        assert 1000 < one.frames < 9000
        assert seen(tmp_path / "x.pcapng", place) == numbered(10_000)[: one.frames]
    told = subprocess.run(["capinfos", str(tmp_path / "x.pcapng")], capture_output=True, text=True, check=True).stdout
    assert [int(line.split("=")[1]) for line in told.splitlines() if "Number of stat entries" in line] == [1, 1]
    shown = subprocess.run(["tshark", "-r", str(tmp_path / "x.pcapng"), "-q", "-z", "io,stat,0"], capture_output=True, text=True, check=True).stdout
    assert f"{sum(one.frames for one in statistics)}" in shown


@pytest.mark.parametrize("ends", ["count", "seconds", "idle", "until"])
def test_a_capture_ends_when_it_was_told_to(world: World, ends: str) -> None:
    world.sh(PAIR)
    reader, writer = os.pipe()
    how: dict[str, dict[str, Any]] = {
        "count": {"count": 7},
        "seconds": {"seconds": 0.2},
        "idle": {"idle": 0.1},
        "until": {"until": {writer: 0}},
    }
    with Sniffer([OWN, OTHER]) as sniffer:
        send(numbered(20))
        if ends == "until":
            os.close(reader)
        got = [frames.bytes_of(i) for frames in sniffer.frames(**how[ends]) for i in range(len(frames))]
        handed = [one.frames for one in sniffer.statistics]
    assert sum(handed) == len(got) == (7 if ends == "count" else 40)
    assert set(got) <= set(numbered(20))


def test_a_link_that_goes_down_and_up_is_captured_on_and_one_that_is_deleted_ends_the_capture(world: World) -> None:
    world.sh(PAIR)
    with Sniffer([OWN, OTHER]) as sniffer:
        send(numbered(2))
        world.sh("ip -n vm1 link set eth0 down; ip -n vm1 link set eth0 up")
        send(numbered(3))
        world.sh("ip -n vm1 link del eth0")
        got = [frames.bytes_of(i) for frames in sniffer.frames() for i in range(len(frames))]
        assert [(one.frames, one.gone) for one in sniffer.statistics] == [(5, True), (5, True)]
    assert sorted(got) == sorted(2 * (numbered(2) + numbered(3)))


def test_a_bridge_shows_what_it_forwards_and_loopback_shows_each_frame_once(world: World, tmp_path: Path) -> None:
    world.sh(
        PAIR
        + """
    ip netns add s
    ip -n s link add br0 type bridge; ip -n s link set br0 up
    for vm in vm1 vm2; do
        ip -n $vm link add eth1 type veth peer name $vm netns s; ip -n $vm link set eth1 up; ip -n s link set $vm master br0; ip -n s link set $vm up
    done
    ip netns exec s sysctl -qw net.ipv6.conf.br0.disable_ipv6=1
    for port in vm1 vm2; do until bridge -n s link show dev $port | grep -q forwarding; do sleep 0.01; done; done
    """
    )
    with Capture([Vantage("s", "br0", NETNS / "s"), Vantage("vm1", "lo", NETNS / "vm1")], to=tmp_path / "x.pcapng"):
        with inside(NETNS / "vm1"), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
            out.bind(("eth1", 0))
            out.send(bytes.fromhex("02000000000102000000000288b5") + b"bridged".ljust(46))
        world.sh("ip netns exec vm1 ping -q -c 2 -i 0.01 127.0.0.1 >/dev/null")
    assert [data[14:21] for data in seen(tmp_path / "x.pcapng", "s") if data[12:14] == b"\x88\xb5"] == [b"bridged"]
    assert [data[34] for data in seen(tmp_path / "x.pcapng", "vm1")] == [8, 0, 8, 0]
    assert "PROMISC" not in world.sh("ip -n s -d link show br0")


def test_the_file_says_where_it_was_taken_with_which_offloads_and_how_many_frames(world: World, tmp_path: Path) -> None:
    world.sh(PAIR + "ip netns exec vm1 ethtool -K eth0 tx off tso off gro off >/dev/null")
    with Capture([OWN, OTHER], to=tmp_path / "x.pcapng", snaplen=99, filter="arp"):
        pass
    told = subprocess.run(["capinfos", str(tmp_path / "x.pcapng")], capture_output=True, text=True, check=True).stdout
    assert [line.split("= ")[1] for line in told.splitlines() if "Name = " in line] == ["vm1/eth0", "vm2/eth0"]
    assert [line.split("= ")[1] for line in told.splitlines() if "Capture length = " in line] == ["99", "99"]
    data = (tmp_path / "x.pcapng").read_bytes()
    asked = world.sh("ip netns exec vm1 ethtool -k eth0")
    words = ", ".join(f"{short} {'on' if f'{name}: on' in asked else 'off'}" for short, name in OFFLOADS.items())
    assert words.startswith("tx off")
    assert f"offloads: {words}".encode() in data
    assert b"offloads: tx on" in data


OFFLOADS = {
    "tx": "tx-checksumming",
    "rx": "rx-checksumming",
    "tso": "tcp-segmentation-offload",
    "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload",
}


@pytest.mark.parametrize(
    ("vantage", "how", "error", "words"),
    [
        (OWN, {"filter": "udp prt 4789"}, UsageError, r"the filter 'udp prt 4789' cannot be understood: .*syntax error"),
        (OWN, {"filter": "udp\0"}, UsageError, "zero byte"),
        (Vantage("vm1", "eth7", NETNS / "vm1"), {}, UsageError, "vm1 has no device 'eth7'; it has lo, eth0"),
        (Vantage("vm1", "tun0", NETNS / "vm1"), {}, UsageError, r"vm1/tun0 carries no Ethernet frames \(its hardware type is 65534\)"),
        (Vantage("vm3", "eth0", NETNS / "vm3"), {}, LabError, "vm3/eth0 cannot be captured at: No such file or directory"),
    ],
)
def test_what_cannot_be_captured_is_refused_with_a_reason(
    world: World, tmp_path: Path, vantage: Vantage, how: dict[str, Any], error: type[Exception], words: str
) -> None:
    world.sh(PAIR + "ip -n vm1 tuntap add tun0 mode tun")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error, match=words):
        Capture([OTHER, vantage] if not how else [vantage], to=tmp_path / "x.pcapng", **how)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_cannot_be_written_ends_the_capture_and_is_told_at_its_end(world: World, tmp_path: Path) -> None:
    world.sh(PAIR)
    with pytest.raises(CaptureError, match="/dev/full: writing failed after 0 frames"):
        Capture([OWN], to="/dev/full")
    world.sh(f"mount -t tmpfs -o size=64k tmpfs {tmp_path}")
    with pytest.raises(CaptureError, match=r"writing failed after .* frames: No space left on device"), Capture([OWN], to=tmp_path / "x.pcapng"):
        send(numbered(3000))


def test_nothing_stays_open_and_the_namespace_is_as_it_was(world: World, tmp_path: Path) -> None:
    world.sh(PAIR)
    before = len(os.listdir("/proc/self/fd")), world.sh("ip -n vm1 -d link show eth0; cat /proc/self/maps | grep -c socket: || true")
    for _ in range(3):
        with Capture([OWN, OTHER], to=tmp_path / "x.pcapng"):
            send(numbered(10))
    assert (len(os.listdir("/proc/self/fd")), world.sh("ip -n vm1 -d link show eth0; cat /proc/self/maps | grep -c socket: || true")) == before
    assert "socket:" not in Path("/proc/self/maps").read_text()
