"""The walk, layer by layer: what a row says of a frame that has this and that.

Expectations are written out, not computed: this is the file to read to learn what the columns mean. Every frame here is in `SPECIMENS`, and scapy
reads it as well (test_walk_equals_reference.py).
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.decode.frames import ETH, SPECIMENS, V4, Made, as_frames, values
from vxtool.decode import _walk
from vxtool.decode.columns import ROW
from vxtool.decode.walk import Options, walk


def row_of(frame: Made | str, **options: object) -> dict[str, object]:
    made = SPECIMENS[frame] if isinstance(frame, str) else frame
    return values(walk(as_frames([made]), Options(**options))[0], made.data)  # type: ignore[arg-type]


TOLD: dict[str, dict[str, object]] = {
    # Link and tags
    "802.3": {"outer_ethertype": None, "outer_ip_version": None, "stop": None},
    "three vlan tags": {"outer_vlan": 100, "outer_vlan2": 7, "outer_vlan_tags": 3, "outer_ethertype": 0x0800, "outer_ip_offset": 26},
    "unknown ethertype": {"outer_ethertype": 0x88CC, "stop": None},
    "sll": {"sll_type": 4, "sll_ifindex": None, "outer_eth_src": "02:42:0a:00:00:01", "outer_eth_dst": None, "outer_ip_offset": 16},
    "sll2": {"sll_type": 3, "sll_ifindex": 7, "tunnel": "vxlan", "vni": 2, "outer_ip_offset": 20},
    "sll netlink": {"stop": "unsupported", "stop_layer": "link", "outer_ethertype": None},
    "null, little-endian": {"outer_ip_version": 4, "outer_ip_offset": 4},
    "null, big-endian": {"outer_ip_version": 6, "outer_ip_offset": 4},
    "null, odd family": {"stop": "unsupported", "outer_ip_version": None},
    "raw neither": {"stop": "malformed", "stop_layer": "link"},
    "unsupported link": {"stop": "unsupported", "stop_layer": "link", "stop_offset": 0},
    "empty": {"stop": "truncated", "stop_layer": "ethernet", "stop_offset": 0, "stop_wanted": 14},
    # ARP
    "arp": {"inner_arp_op": 1, "inner_arp_spa": "192.168.0.1", "inner_arp_tha": "00:00:00:00:00:00", "outer_trailer": 18},
    "arp of other sizes": {"inner_arp_op": None, "stop": None},
    # IP
    "tcp with options": {
        "outer_ip_src": "192.168.0.1",
        "outer_l4_offset": 42,
        "inner_tcp_mss": 1410,
        "inner_tcp_flags": 0xC2,
        "inner_tcp_seq": 0xFFFFFFF0,
    },
    "tcp payload": {"outer_tos": 0xB8, "outer_df": True, "inner_payload_len": 20, "inner_tcp_window": 501, "control": "management"},
    "udp with trailer": {"outer_trailer": 15, "inner_payload_len": 3, "stop": None},
    "udp shorter than ip": {"outer_udp_len": 20, "inner_payload_len": 12, "dns_id": 0x1234, "stop": "truncated", "stop_layer": "dns"},
    "ipv4-mapped ipv6": {"outer_ip_version": 6, "outer_ip_src": "::ffff:1.2.3.4"},
    "ipv6 extension headers": {"outer_proto": 6, "outer_tos": 0x2E, "outer_l4_offset": 54 + 8 + 24 + 8, "outer_sport": 1},
    "ipv6 first fragment": {"outer_frag": "first", "outer_ip_id": 0xDEADBEEF, "outer_proto": 17, "outer_dport": 10, "stop": None},
    "ipv6 later fragment": {"outer_frag": "later", "outer_frag_offset": 1448, "outer_dport": None, "outer_proto": 17, "stop": None},
    "ipv6 atomic fragment": {"outer_frag": None, "outer_ip_id": 9, "outer_dport": 10},
    "ipv6 ah": {"outer_proto": 17, "outer_dport": 10},
    "later fragment": {"outer_frag": "later", "outer_frag_offset": 800, "outer_sport": None, "tunnel": "none", "stop": None},
    "first fragment": {"outer_frag": "first", "outer_frag_more": True, "tunnel": "vxlan", "vni": 9, "inner_icmp_id": 7, "stop": None},
    "ip version 5": {"stop": "malformed", "stop_layer": "ipv4", "outer_ip_src": None},
    "ihl 4": {"stop": "malformed", "stop_layer": "ipv4"},
    "ip shorter than its header": {"stop": "malformed", "stop_layer": "ipv4"},
    "ip claims too much": {
        "stop": "truncated",
        "stop_layer": "ipv4",
        "stop_offset": 14,
        "stop_wanted": 900,
        "outer_dport": 9,
        "inner_payload_len": 1,
    },
    "udp claims too much": {"stop": "truncated", "stop_layer": "udp", "stop_offset": 34, "stop_wanted": 900, "inner_payload_len": 1},
    "inner ip claims too much": {"stop": "truncated", "stop_layer": "ipv4", "stop_depth": 1, "inner_dport": 9},
    "inner ip shorter than its udp, in a first fragment": {"stop": "truncated", "stop_layer": "udp", "stop_depth": 1},
    "udp length 7": {"stop": "malformed", "stop_layer": "udp", "outer_udp_len": 7, "outer_dport": 9, "inner_payload_len": None},
    "tcp offset 4": {"stop": "malformed", "stop_layer": "tcp", "inner_tcp_seq": 0},
    "esp": {"esp_spi": 0xC0FFEE, "esp_seq": 12, "outer_checksum": None, "outer_l4_offset": 34, "stop": None},
    "sctp": {"outer_sport": 7946, "outer_dport": 3868, "outer_checksum": None, "control": None},
    "gre": {"outer_proto": 47, "outer_l4_offset": None, "tunnel": "none", "stop": None},
    "gossip": {"control": "gossip"},
    # ICMP
    "icmp echo": {"inner_icmp_type": 8, "inner_icmp_id": 7, "inner_icmp_seq": 3, "inner_payload_len": 8},
    "icmp fragmentation needed": {"inner_icmp_mtu": 1450, "inner_quoted_ip_src": "192.168.0.1", "inner_quoted_dport": 4789, "tunnel": "none"},
    "icmp port unreachable": {"inner_quoted_ip_id": 5, "inner_quoted_proto": 17, "inner_quoted_sport": 53, "dns_id": None},
    "icmp quote of a later fragment": {"inner_quoted_proto": 6, "inner_quoted_sport": None},
    "icmpv6 too big": {"inner_icmp_mtu": 1280, "inner_quoted_ip_dst": "fd00::2", "inner_quoted_dport": 5},
    # DNS
    "dns query": {"dns_qname": "web.example", "dns_qtype": "AAAA", "dns_qr": False, "dns_answers": []},
    "dns answer": {"dns_qr": True, "dns_answers": ["10.0.1.5", "fd00::5"], "dns_ttls": [600, 60], "stop": None},
    "dns inside a container": {"dns_qname": "web.example"},
    "dns over tcp": {"dns_id": 0x1234, "dns_answers": ["10.0.1.5", "fd00::5"]},
    "dns over tcp, middle": {"dns_id": None, "stop": None},
    "dns name without an end": {"stop": "truncated", "stop_layer": "dns", "stop_offset": 58, "stop_wanted": 8},
    "dns pointer without its second byte": {"stop": "truncated", "stop_layer": "dns", "stop_offset": 54, "stop_wanted": 2},
    "dns pointer onto itself": {"stop": "malformed", "stop_layer": "dns", "stop_offset": 54},
    "dns pointer into the header": {"stop": "malformed", "stop_layer": "dns", "stop_offset": 54, "dns_qname": None},
    "dns label of unknown type": {"stop": "malformed", "stop_layer": "dns", "stop_offset": 54},
    # Tunnels
    "vxlan": {"tunnel": "vxlan", "vni": 4097, "depth": 1, "vxlan_i": True, "tunnel_offset": 42, "inner_eth_offset": 50, "inner_ip_src": "10.0.1.3"},
    "vxlan over ipv6": {"outer_ip_version": 6, "inner_ip_version": 6, "vni": 4097},
    "vxlan on port 8472, tagged inside": {"tunnel": "vxlan", "inner_vlan": 5, "outer_vlan": None},
    "vxlan arp": {"inner_arp_op": 2, "inner_ip_src": None, "outer_ip_src": "192.168.0.1"},
    "vxlan dns": {"dns_answers": ["10.0.1.5", "fd00::5"], "outer_dport": 4789, "inner_sport": 53},
    "vxlan source port only": {"tunnel": "none", "depth": 0},
    "vxlan on another port": {"tunnel": "none", "inner_dport": 5000},
    "vxlan all reserved bits": {"vni": 11, "vxlan_word": 0xFFFFFFFF, "vxlan_last": 0xFF, "inner_ip_src": "10.0.1.3"},
    "vxlan group policy and next protocol": {"vni": 11, "gbp_policy": 0x12, "gbp_d": True, "gbp_a": True, "gpe_p": None, "inner_ip_src": "10.0.1.3"},
    "vxlan group policy": {"vni": 3, "gbp_policy": 100},
    "vxlan without the i flag": {"vni": 5, "vxlan_i": False, "inner_ip_src": "10.0.1.3"},
    "vxlan cut after four bytes": {
        "stop": "truncated",
        "stop_layer": "vxlan",
        "stop_depth": 0,
        "stop_wanted": 8,
        "depth": 0,
        "inner_ip_src": "192.168.0.1",
    },
    "vxlan in vxlan, cut": {
        "depth": 1,
        "stop": "truncated",
        "stop_layer": "vxlan",
        "stop_depth": 1,
        "inner_ip_src": "10.0.1.3",
        "inner_payload_len": 4,
    },
    "gpe ethernet": {"tunnel": "vxlan-gpe", "gpe_p": True, "gpe_next": 3, "inner_eth_src": "02:42:0a:00:01:03"},
    "gpe ipv4": {"tunnel": "vxlan-gpe", "gpe_next": 1, "inner_eth_src": None, "inner_ip_src": "10.0.1.3"},
    "gpe without p": {"gpe_p": False, "gpe_b": True, "inner_eth_src": "02:42:0a:00:01:03"},
    "gpe oam": {"gpe_o": True, "gpe_version": 1, "inner_ip_src": None, "stop": None},
    "gpe nsh": {"gpe_next": 4, "inner_ip_src": "10.0.1.3"},
    "gpe nsh of no length": {"stop": "malformed", "stop_layer": "nsh", "stop_depth": 1, "vni": 11},
    "geneve": {"tunnel": "geneve", "vni": 9, "geneve_protocol": 0x6558, "geneve_options": 0, "vxlan_word": None, "inner_ip_src": "10.0.1.3"},
    "geneve ipv6 with options": {"geneve_options": 2, "geneve_critical": True, "geneve_oam": True, "inner_eth_src": None, "inner_ip_version": 6},
    "geneve options overrun": {"stop": "malformed", "stop_layer": "geneve", "stop_depth": 0, "vni": 9, "geneve_critical": True, "inner_ip_src": None},
    "geneve in vxlan": {"tunnel": "vxlan", "vni": 4097, "inner_tunnel": "geneve", "inner_vni": 10, "depth": 2, "geneve_version": None},
    "nested 8 deep": {"depth": 8, "vni": 1, "inner_vni": 8, "inner_icmp_type": 8, "stop": None},
    "nested 10 deep": {"depth": 8, "inner_vni": 8, "stop": "depth", "stop_layer": "vxlan", "stop_depth": 8, "inner_sport": 1009},
    "big tcp over ipv4": {"outer_ip_len": 0, "outer_udp_len": 0, "vni": 7, "inner_ip_len": 0, "inner_payload_len": 64, "stop": None},
    "big tcp over ipv6": {"outer_ip_len": 0, "outer_udp_len": 0, "vni": 7, "inner_payload_len": 64, "stop": None},
}


@pytest.mark.parametrize("name", TOLD)
def test_a_row_tells_of(name: str) -> None:
    row = row_of(name)
    assert {column: row[column] for column in TOLD[name]} == TOLD[name]


def test_a_frame_without_a_tunnel_fills_inner_and_outer_alike() -> None:
    row = row_of("dns query")
    names = [name.removeprefix("outer_") for name in row if name.startswith("outer_")]
    assert {name: row[f"outer_{name}"] for name in names} == {name: row[f"inner_{name}"] for name in names}


def test_what_the_snap_length_cut_is_told_from_what_the_frame_lacks() -> None:
    data = SPECIMENS["vxlan"].data
    assert [row_of(Made(data[:60], wirelen=wire))["stop"] for wire in (None, len(data))] == ["truncated", "snapped"]


def test_what_a_first_fragment_lacks_is_in_a_later_one() -> None:
    data = bytearray(SPECIMENS["first fragment"].data[:60])
    data[16:18] = (60 - 14).to_bytes(2, "big")  # a fragment that ends inside the inner Ethernet header
    row = row_of(Made(bytes(data)))
    assert (row["stop"], row["stop_layer"], row["vni"]) == ("fragment", "ethernet", 9)


def test_a_guess_finds_vxlan_on_any_port_and_says_so() -> None:
    row = row_of("vxlan on another port", guess=True)
    assert (row["tunnel"], row["vni"], row["guessed"]) == ("vxlan", 1, True)
    assert row_of("vxlan", guess=True)["guessed"] is False


def test_ports_can_be_replaced() -> None:
    ports = frozenset({5000})
    assert row_of("vxlan on another port", vxlan_ports=ports)["vni"] == 1
    assert row_of("vxlan", vxlan_ports=ports)["tunnel"] == "none"


@pytest.mark.parametrize(
    ("name", "outer", "inner"),
    [
        ("vxlan", "good", "good"),
        ("vxlan checksum zero", "zero", "good"),
        ("udp with trailer", "good", "good"),
        ("icmpv6 echo", "good", "good"),
        ("first fragment", None, "good"),  # the inner datagram is whole, the outer one is not
        ("later fragment", None, None),
        ("ip claims too much", None, None),
        ("ipv6 routing header with segments left", None, None),  # the pseudo-header wants a destination that is not in the IP header
        ("vxlan cut after four bytes", "good", "good"),
        ("nested 10 deep", "good", "good"),
        ("esp", None, None),
    ],
)
def test_checksums(name: str, outer: str | None, inner: str | None) -> None:
    row = row_of(name, checksums=True)
    assert (row["outer_checksum_class"], row["inner_checksum_class"]) == (outer, inner)


@pytest.mark.parametrize(("jumps", "stop"), [(127, None), (128, "malformed")])
def test_a_chain_of_pointers_may_be_as_long_as_a_name_can_have_labels(jumps: int, stop: str | None) -> None:
    """Longer ones serve only to keep a reader busy: 8,000 steps for each of 5,000 names fit into one datagram."""
    first = 12 + 11  # where the data of the first record begins: an end of a name, then pointers, each to the one before
    chain = b"\0" + b"".join((0xC000 | first + max(0, 2 * i - 1)).to_bytes(2, "big") for i in range(jumps - 1))
    last = 0xC000 | first + len(chain) - 2
    header = bytes.fromhex("0001 8180 0000 0002 0000 0000")
    hiding = b"\0" + bytes.fromhex("000a 0001 00000000") + len(chain).to_bytes(2, "big") + chain  # a NULL record
    message = header + hiding + last.to_bytes(2, "big") + bytes.fromhex("0001 0001 00000000 0004 0a000001")
    row = row_of(Made(bytes(Ether(**ETH) / IP(**V4) / UDP(sport=53, dport=9) / Raw(message))))
    answers = row["dns_answers"]
    assert (row["stop"], row["dns_answer_count"]) == (stop, 2)
    assert isinstance(answers, list)
    assert answers[1:] == (["10.0.0.1"] if stop is None else [])


def test_no_frames_are_no_rows() -> None:
    assert len(walk(as_frames([]))) == 0


def test_the_struct_of_the_walk_and_the_columns_lie_on_each_other() -> None:
    for name, (offset, size) in _walk.layout().items():
        dtype, at = ROW.fields[name][:2]  # type: ignore[index]
        assert (offset, size) == (at, dtype.itemsize), name
    assert _walk.row_size() == ROW.itemsize
