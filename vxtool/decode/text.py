"""Text output: one line a frame, outer and inner on it.

      1  0.000000 192.0.2.11>192.0.2.12 4097 10.0.1.3:41234 > 10.0.1.4:80  TCP S  win 64240 mss 1410
      2  0.000312 192.0.2.12:7946 > 192.0.2.11:7946                       UDP gossip len 47

Frame, seconds since the first frame (or another time, as asked), the vantage when there are several, who sent to whom, and what. A tunnelled frame
shows its VTEPs (no space around ">"), its network identifier (VXLAN; other tunnels are named; outermost/innermost when nested), then the inner
addresses. A frame without a tunnel has its one pair of addresses where the VTEPs would be, with ports. What is unusual stands in brackets at the end.

TCP sequence and acknowledgment numbers count from the start of the connection as tshark's do, FIRST:NEXT when there is data, flags as tcpdump's
(S SYN, F FIN, R RST, P PSH, U URG, E ECE, W CWR, e AE, . ACK). The numbers as they stand are in the other outputs.

Knows which words the line uses; how it is put together is compiled (_render.pyx, class Lines).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vxtool.capture.frames import Damage
from vxtool.decode import _render, dns
from vxtool.decode.batch import Batch
from vxtool.decode.names import ETHERTYPES, IP_PROTOCOLS, RCODES
from vxtool.decode.render import Output, as_bytes, once, printable
from vxtool.decode.times import Clock

__all__ = ["ICMP_WORDS", "RCODE_WORDS", "TextSink", "icmp_words", "shown"]

ICMP_WORDS: dict[tuple[int, int, int | None], str] = {
    (4, 0, None): "echo reply",
    (4, 3, None): "unreachable",
    (4, 3, 0): "network unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 2): "protocol unreachable",
    (4, 3, 3): "port unreachable",
    (4, 3, 4): "fragmentation needed",
    (4, 3, 5): "source route failed",
    (4, 3, 6): "network unknown",
    (4, 3, 7): "host unknown",
    (4, 3, 9): "network prohibited",
    (4, 3, 10): "host prohibited",
    (4, 3, 13): "administratively prohibited",
    (4, 4, None): "source quench",
    (4, 5, None): "redirect",
    (4, 8, None): "echo request",
    (4, 9, None): "router advertisement",
    (4, 10, None): "router solicitation",
    (4, 11, None): "time exceeded",
    (4, 11, 0): "TTL exceeded",
    (4, 11, 1): "reassembly time exceeded",
    (4, 12, None): "parameter problem",
    (4, 13, None): "timestamp request",
    (4, 14, None): "timestamp reply",
    (6, 1, None): "unreachable",
    (6, 1, 0): "no route",
    (6, 1, 1): "administratively prohibited",
    (6, 1, 3): "address unreachable",
    (6, 1, 4): "port unreachable",
    (6, 2, None): "packet too big",
    (6, 3, None): "time exceeded",
    (6, 3, 0): "hop limit exceeded",
    (6, 3, 1): "reassembly time exceeded",
    (6, 4, None): "parameter problem",
    (6, 128, None): "echo request",
    (6, 129, None): "echo reply",
    (6, 130, None): "multicast listener query",
    (6, 131, None): "multicast listener report",
    (6, 132, None): "multicast listener done",
    (6, 133, None): "router solicitation",
    (6, 134, None): "router advertisement",
    (6, 135, None): "neighbor solicitation",
    (6, 136, None): "neighbor advertisement",
    (6, 137, None): "redirect",
    (6, 143, None): "multicast listener report v2",
}
"""What an ICMP message is, by (IP version, type, code); None stands for the codes without words of their own (IANA, ICMP and ICMPv6 parameters)."""

RCODE_WORDS = {number: word for word, number in RCODES.items()}
"""DNS response codes by number."""

_WIDEST_VANTAGE = 16  # characters; a longer name keeps its end, where file names differ
_WIDEST_DNS = 60  # characters of names and answers on a line; the tree and the other outputs have all of it


def icmp_words(version: int, kind: int, code: int) -> str:
    """What an ICMP (version 4) or ICMPv6 (6) message is."""
    return ICMP_WORDS.get((version, kind, code)) or ICMP_WORDS.get((version, kind, None)) or f"type {kind} code {code}"


class TextSink:
    """Lines of text, aligned as they come: columns widen for what they meet, never for a lone IPv6 address."""

    def __init__(self, out: Output, *, color: bool = False, time: Clock = "relative") -> None:
        """color: with ANSI colours. time: since the first frame, since the one before, or date and time in UTC."""
        self._out = out
        protocols = [b""] * 256
        for word, number in IP_PROTOCOLS.items():
            protocols[number] = shown(word).encode()
        ethertypes = {number: shown(word).encode() for word, number in ETHERTYPES.items()}
        # 0xFF stands for every code without a better word: no message uses it.
        icmp = {version << 16 | kind << 8 | (0xFF if code is None else code): words.encode() for (version, kind, code), words in ICMP_WORDS.items()}
        self._lines = _render.Lines(color, time, protocols, ethertypes, icmp)
        self._dns = once(_dns_line)

    def write(self, batch: Batch) -> None:
        vantages = _one_width(batch.frames.vantages) if len(batch.frames.vantages) > 1 else []
        rows = as_bytes(batch.rows)
        offsets = np.ascontiguousarray(batch.frames.index["offset"])
        at = 0
        while at < len(rows):
            data, at = self._lines.render(rows, at, vantages, self._dns, batch.frames.buffer, offsets)
            self._out.write(data)

    def finish(self, damage: Sequence[Damage] = ()) -> None:
        """Damage is told on stderr by whoever drives the sink: lines of text have no place for it."""


def shown(word: str) -> str:
    """Names of protocols as people write them."""
    return {"icmpv6": "ICMPv6", "ipv6": "IPv6", "ipv4": "IPv4", "qinq": "QinQ"}.get(word, word.upper())


def _one_width(names: Sequence[str]) -> list[bytes]:
    shown = [printable(name) for name in names]
    width = min(max(map(len, shown)), _WIDEST_VANTAGE)
    return [(name if len(name) <= width else "~" + name[1 - width :]).ljust(width).encode() for name in shown]


def _dns_line(body: bytes) -> bytes:
    """What the line says of a message without its id: "A? web", "A web = 10.0.1.8 10.0.1.9", "A nosuch: NXDOMAIN"."""
    message = dns.parse(b"\0\0" + body)
    response = message.flags >> 15
    opcode = message.flags >> 11 & 15
    parts = []
    if opcode:
        parts.append(dns.OPCODES.get(opcode, f"opcode {opcode}"))
    if message.questions:
        question = message.questions[0]
        parts.append(f"{question.type}{'' if response else '?'} {_short(question.name)}")
        if len(message.questions) > 1:
            parts.append(f"+{len(message.questions) - 1} questions")
    if response:
        rcode = message.flags & 15
        if rcode or not (message.answers or message.error):
            parts[-1:] = [f"{part}:" for part in parts[-1:]]
            parts.append(RCODE_WORDS.get(rcode, f"rcode {rcode}") if rcode else "no answer")
        if message.answers:
            parts.append("= " + _answers(message.answers))
        if message.flags >> 9 & 1:
            parts.append("(truncated)")
    if message.error:
        parts.append("(cut short)")
    return " ".join(parts).encode()


def _answers(answers: Sequence[dns.Record]) -> str:
    """As many as there is room for, at least one; the type where it is not an address."""
    words: list[str] = []
    room = _WIDEST_DNS
    for answer in answers:
        word = answer.data if answer.type in ("A", "AAAA") else f"{answer.type} {answer.data}"
        word = _short(word)
        room -= len(word) + 1
        if words and room < 0:
            words.append(f"+{len(answers) - len(words)} more")
            break
        words.append(word)
    return " ".join(words)


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST_DNS else text[: _WIDEST_DNS - 3] + "..."
