"""Files that stop making sense: cut off, a record that lies, noise in the middle, an empty capture, a block length or an interface that cannot be."""

import struct

from _making import A, B, between, inner, save, write_pcap
from scapy.layers.inet import ICMP

frames = [between(0, 1, 4097, inner(A, B) / ICMP(id=1, seq=n)) for n in range(1, 21)]
good = write_pcap(frames)
size = 16 + len(bytes(frames[0]))
tenth = 24 + 9 * size


def changed(offset: int, new: bytes) -> bytes:
    return good[:offset] + new + good[offset + len(new) :]


save(__file__, good[: 24 + 12 * size + 40], suffix="_cut_frame.pcap")
save(__file__, good[: 24 + 12 * size + 7], suffix="_cut_record.pcap")
save(__file__, good[:24], suffix="_empty.pcap")
save(__file__, changed(tenth + 8, struct.pack("<II", 0x7FFFFFFF, 0x7FFFFFFF)), suffix="_lying_length.pcap")
save(__file__, changed(tenth + 8, struct.pack("<II", 1500, 1500)), suffix="_long_length.pcap")  # swallows the records that follow
save(__file__, good[:tenth] + bytes((n * 89 + 7) & 0xFF for n in range(1000)) + good[tenth:], suffix="_noise.pcap")

body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
blocks = struct.pack("<II", 0x0A0D0D0A, 28) + body + struct.pack("<I", 28) + struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20)
packets = []
for number, frame in enumerate(frames):
    data = bytes(frame) + bytes(-len(bytes(frame)) % 4)
    content = struct.pack("<IIIII", 0, 0x65C00, number, len(bytes(frame)), len(bytes(frame))) + data
    packets.append(struct.pack("<II", 6, len(content) + 12) + content + struct.pack("<I", len(content) + 12))
lie = struct.pack("<II", 6, 0xFFFFFFF0) + packets[9][8:]
stranger = packets[9][:8] + struct.pack("<I", 99) + packets[9][12:]  # an interface that nobody described
odd = struct.pack("<II", 6, 13) + packets[9][8:]
save(__file__, blocks + b"".join(packets[:9]) + lie + b"".join(packets[10:]), suffix="_lying_block.pcapng")
save(__file__, blocks + b"".join(packets[:9]) + odd + b"".join(packets[10:]), suffix="_odd_block.pcapng")
save(__file__, blocks + b"".join(packets[:9]) + stranger + b"".join(packets[10:]), suffix="_unknown_interface.pcapng")
save(__file__, blocks + b"".join(packets)[:-5], suffix="_cut_block.pcapng")
