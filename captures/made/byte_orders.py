"""The same three frames in the other pcap forms: big-endian, nanoseconds, both."""

from _making import A, B, between, inner, save
from scapy.layers.inet import ICMP

frames = [between(0, 1, 4097, inner(A, B) / ICMP(id=1, seq=n)) for n in (1, 2, 3)]
save(__file__, frames, suffix="_big.pcap", byte_order=">")
save(__file__, frames, suffix="_nano.pcap", nanoseconds=True)
save(__file__, frames, suffix="_big_nano.pcap", byte_order=">", nanoseconds=True)
