"""DNS as a swarm speaks it: to 127.0.0.11 from inside a container, to an upstream server, inside a tunnel, over TCP; and messages that lie."""

import struct

from _making import A, B, between, inner, request, save
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRSRV
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

LOOP = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00")


def to_resolver(message: Packet | bytes) -> Packet:
    """Inside a container the query goes to 127.0.0.11, where Docker turns port 53 into one it chose itself."""
    return LOOP / IP(src="127.0.0.1", dst="127.0.0.11", id=1) / UDP(sport=45_000, dport=38_211) / Raw(bytes(message))


def from_resolver(message: Packet | bytes) -> Packet:
    return LOOP / IP(src="127.0.0.11", dst="127.0.0.1", id=2) / UDP(sport=38_211, dport=45_000) / Raw(bytes(message))


def query(name: str, kind: str = "A", number: int = 1) -> DNS:
    return DNS(id=number, rd=1, qd=DNSQR(qname=name, qtype=kind))


def answer(name: str, records: list[Packet], kind: str = "A", number: int = 1, rcode: int = 0, **flags: int) -> DNS:
    return DNS(id=number, qr=1, rd=1, ra=1, rcode=rcode, qd=DNSQR(qname=name, qtype=kind), an=records, **flags)


def a(name: str, address: str) -> DNSRR:
    return DNSRR(rrname=name, type="A", ttl=600, rdata=address)


def upstream(message: Packet | bytes) -> Packet:
    return inner(A, "10.255.255.53") / UDP(sport=45_001, dport=53) / Raw(bytes(message))


def over_tcp(message: bytes, flags: str = "PA") -> Packet:
    return inner(A, B) / TCP(sport=45_002, dport=53, flags=flags, seq=1, ack=1) / Raw(message)


web = answer("web.", [a("web.", "10.0.1.2")])
tasks = answer("tasks.web.", [a("tasks.web.", f"10.0.1.{n}") for n in (5, 3, 4)], number=2)
header = struct.pack(">HHHHHH", 9, 0x8180, 1, 1, 0, 0)
question = b"\x03web\x00\x00\x01\x00\x01"
record = b"\x00\x01\x00\x01\x00\x00\x02\x58\x00\x04\x0a\x00\x01\x02"
compressed = header + question + b"\xc0\x0c" + record
whole = bytes(web)
save(
    __file__,
    [
        to_resolver(query("web.")),
        from_resolver(web),
        to_resolver(query("tasks.web.", number=2)),
        from_resolver(tasks),
        to_resolver(query("web.", "AAAA", 3)),
        from_resolver(answer("web.", [], "AAAA", 3)),  # a known name without IPv6: NOERROR, no record
        to_resolver(query("2.1.0.10.in-addr.arpa.", "PTR", 4)),
        from_resolver(
            answer("2.1.0.10.in-addr.arpa.", [DNSRR(rrname="2.1.0.10.in-addr.arpa.", type="PTR", ttl=600, rdata="web.1.abc.net.")], "PTR", 4)
        ),
        from_resolver(
            answer("_http._tcp.web.", [DNSRRSRV(rrname="_http._tcp.web.", ttl=600, priority=1, weight=2, port=80, target="web.")], "SRV", 5)
        ),
        upstream(query("example.org.", number=6)),
        LOOP / IP(src="10.255.255.53", dst=A, id=3) / UDP(sport=53, dport=45_001) / Raw(bytes(answer("nowhere.example.org.", [], number=6, rcode=3))),
        upstream(answer("long.example.org.", [], number=7, tc=1)),
        between(0, 1, 4097, inner(A, B) / UDP(sport=45_003, dport=53) / Raw(bytes(query("web.")))),
        between(1, 0, 4097, inner(B, A) / UDP(sport=53, dport=45_003) / Raw(whole)),
        over_tcp(b"", "S"),
        over_tcp(struct.pack(">H", len(whole)) + whole),
        over_tcp(struct.pack(">H", len(whole)) + whole[:20]),  # the rest is in the next segment
        over_tcp(b"\x00"),  # half of the length
        LOOP / IPv6(src="fd00::3", dst="fd00::53") / UDP(sport=45_004, dport=53) / Raw(bytes(query("web.", "AAAA", 8))),
        from_resolver(compressed),
        from_resolver(header + question + b"\xc0\x1a" + record),  # a pointer to itself
        from_resolver(header + question + b"\xc0\xff" + record),  # a pointer behind the end
        from_resolver(header + b"\x40abc" + question),  # a label type that is not in use
        from_resolver(struct.pack(">HHHHHH", 9, 0x8180, 65_535, 65_535, 65_535, 65_535) + question),  # counts that nothing follows
        from_resolver(header + b"\x05w\x00\xff.\\\x00\x00\x01\x00\x01"),  # a name with bytes no one can type
        from_resolver(compressed[:-2]),  # the address is cut
        from_resolver(b"\x00\x09\x81"),  # three bytes of twelve
        to_resolver(b"neither DNS nor anything else"),
        request(A, B, sport=53),  # TCP from port 53 without a byte in it
    ],
)
