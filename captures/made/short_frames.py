"""One frame of many headers, cut at every byte: once by the snap length (not damage), once for good (damage)."""

from _making import A, B, Frame, between, inner, save
from scapy.layers.inet import TCP
from scapy.packet import Raw

whole = bytes(between(0, 1, 4097, inner(A, B) / TCP(sport=40_000, dport=80, flags="S", options=[("MSS", 1410)]) / Raw(b"data")))
cut: list[Frame] = [(whole, keep) for keep in range(len(whole) + 1)]
cut += [whole[:keep] for keep in range(len(whole))]
save(__file__, cut)
