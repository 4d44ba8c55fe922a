"""An encrypted overlay: ESP in place of VXLAN (RFC 4303), over IPv4 and IPv6, cut short, and the clear VXLAN that should not be beside it."""

from _making import VTEPS, between, request, save, vtep
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Ether

SECRET = bytes((n * 73 + 41) & 0xFF for n in range(120))  # what encryption would leave: nothing to read
here, there = 0x1E000001, 0x1E000002
save(
    __file__,
    [
        vtep(0, 1) / ESP(spi=here, seq=1, data=SECRET),
        vtep(1, 0) / ESP(spi=there, seq=1, data=SECRET),
        vtep(0, 1) / ESP(spi=here, seq=2, data=SECRET),
        Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IPv6(src="2001:db8::11", dst="2001:db8::12") / ESP(spi=7, seq=9, data=SECRET),
        vtep(0, 1) / UDP(sport=4500, dport=4500, chksum=0) / ESP(spi=here, seq=3, data=SECRET),  # behind NAT (RFC 3948): UDP to us
        bytes(Ether(src="02:00:c0:00:02:0b", dst="02:00:c0:00:02:0c") / IP(src=VTEPS[0], dst=VTEPS[1], proto=50, len=26)) + b"\x1e\0\0\x01\0\0",
        between(0, 1, 4098, request()),
    ],
)
