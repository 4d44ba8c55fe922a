"""Datagrams in pieces, outside and inside the tunnel: in order, backwards, one missing, twice, overlapping, a first piece too short for it all."""

from _making import VTEPS, A, B, between, inner, save, vtep, vxlan
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

BIG = inner(A, B) / ICMP(id=3, seq=1) / Raw(bytes(range(256)) * 4)


def pieces(identification: int, size: int = 512, **header: int | None) -> list[Packet]:
    """A VXLAN datagram of 1,102 bytes, cut by the sender into pieces of `size`."""
    whole = vtep(0, 1) / vxlan(4097, BIG, **header)  # type: ignore[arg-type]
    whole[IP].id = identification
    return list(fragment(Ether(bytes(whole)), fragsize=size))


def pieces6(identification: int) -> list[bytes]:
    """The same over IPv6, by hand: a fragment header in front of each piece (RFC 8200 section 4.5)."""
    ends = IPv6(src="2001:db8::11", dst="2001:db8::12")
    udp = bytes(ends / vxlan(4097, BIG, checksum=None))[40:]
    cuts = [udp[at : at + 512] for at in range(0, len(udp), 512)]
    link = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c")
    return [
        bytes(link / ends / IPv6ExtHdrFragment(nh=17, offset=n * 64, m=int(n + 1 < len(cuts)), id=identification) / Raw(cut))
        for n, cut in enumerate(cuts)
    ]


def inside(frames: list[Packet]) -> list[Packet]:
    return [between(0, 1, 4097, frame, sport=49_300) for frame in frames]


in_order, swapped, missing, twice = pieces(1001), pieces(1002), pieces(1003), pieces(1004)
overlapping = pieces(1005)
overlapping[1][IP].frag -= 8
overlapping[1] = Ether(bytes(overlapping[1])[:24] + b"\0\0" + bytes(overlapping[1])[26:])
inner_pieces = list(fragment(BIG.copy(), fragsize=400))
atomic = Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IPv6(src="2001:db8::11", dst="2001:db8::12") / IPv6ExtHdrFragment(nh=17, id=77)
tiny = vtep(0, 1)
tiny[IP].flags, tiny[IP].id, tiny[IP].proto = "MF", 1006, 17
rest = vtep(0, 1)
rest[IP].frag, rest[IP].id, rest[IP].proto = 1, 1006, 17
datagram = bytes(UDP(sport=49_400, dport=4789, chksum=0) / Raw(b"\x08\0\0\0\0\x10\x01\0" + bytes(BIG)[:80]))
save(
    __file__,
    [
        *in_order,
        *reversed(swapped),
        *(piece for n, piece in enumerate(missing) if n != 1),
        *(piece for piece in twice for _ in range(2)),
        *overlapping,
        *pieces(1007, checksum=None),
        *pieces6(0x12345678),
        *inside(inner_pieces),
        *inside(list(reversed(inner_pieces))),
        atomic / vxlan(4097, inner(A, B) / ICMP(id=4, seq=1), checksum=None),  # a fragment header, and the whole datagram (RFC 6946)
        tiny / Raw(datagram[:8]),  # eight bytes: the UDP header, nothing of VXLAN
        rest / Raw(datagram[8:]),
        Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c")
        / IP(src=VTEPS[0], dst=VTEPS[1], id=1008, flags="MF", frag=8190, proto=17)
        / Raw(bytes(64)),
    ],
)
