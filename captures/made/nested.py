"""Tunnels inside tunnels: one to nine VXLAN headers (the walk follows eight), and different kinds inside one another."""

from _making import A, B, between, inner, request, save
from scapy.layers.inet import ICMP
from scapy.packet import Packet

frames: list[Packet] = []
for depth in range(1, 10):
    frame: Packet = inner(A, B) / ICMP(id=depth, seq=1)
    for level in range(depth, 0, -1):
        frame = between(level % 2, (level + 1) % 2, 100 + level, frame, sport=49_152 + level)
    frames.append(frame)
frames.append(between(0, 1, 200, between(1, 2, 201, request(), dport=4790, word=0x0C00_0003)))
frames.append(between(0, 1, 202, between(1, 2, 203, request(), dport=8472)))
save(__file__, frames)
