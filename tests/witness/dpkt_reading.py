"""What dpkt sees in an Ethernet frame: Ethernet, IP, UDP and TCP, in the words of vxtool's columns.

dpkt knows no VXLAN of its own; behind our ports its Ethernet is asked again, eight bytes further on.
"""

from __future__ import annotations

import socket
from typing import Any

import dpkt

__all__ = ["read"]

Value = int | str | bool | None


def read(frame: bytes) -> dict[str, Value]:
    """The columns that dpkt can speak for in this frame; fewer where it gives up."""
    first, carried = _ethernet(frame)
    columns = {f"outer_{name}": value for name, value in first.items() if not name.startswith("tcp_")}
    last, depth = first, 0
    while carried is not None and depth < 8:
        last, carried = _ethernet(carried)
        depth += 1
    # Behind a tunnel that is not VXLAN, or is cut, there may be more headers than dpkt shows us.
    if last.get("dport") not in (4789, 8472, 4790, 6081):
        columns.update({f"inner_{name}": value for name, value in last.items()})
    return columns


def _ethernet(frame: bytes) -> tuple[dict[str, Value], bytes | None]:
    """One set of headers, and the Ethernet frame in its VXLAN datagram, if it carries one."""
    try:
        ethernet = dpkt.ethernet.Ethernet(frame)
    except (dpkt.UnpackError, IndexError):  # dpkt looks at the first byte of an empty payload
        return {}, None
    headers: dict[str, Value] = {"eth_src": ethernet.src.hex(":"), "eth_dst": ethernet.dst.hex(":")}
    tags = getattr(ethernet, "vlan_tags", [])
    if tags:
        headers["vlan"] = tags[0].id
    ip = ethernet.data
    if isinstance(ip, dpkt.ip.IP):
        headers.update(
            ip_version=4,
            ip_src=socket.inet_ntop(socket.AF_INET, ip.src),
            ip_dst=socket.inet_ntop(socket.AF_INET, ip.dst),
            ttl=ip.ttl,
            tos=ip.tos,
            ip_id=ip.id,
            ip_len=ip.len,
            df=bool(ip.df),
            proto=ip.p,
        )
        if ip.mf or ip.offset:
            headers.update(frag="later" if ip.offset else "first", frag_offset=ip.offset * 8, frag_more=bool(ip.mf))
    elif isinstance(ip, dpkt.ip6.IP6):
        headers.update(
            ip_version=6,
            ip_src=socket.inet_ntop(socket.AF_INET6, ip.src),
            ip_dst=socket.inet_ntop(socket.AF_INET6, ip.dst),
            ttl=ip.hlim,
            tos=ip.fc,
            ip_len=ip.plen and ip.plen + 40,
            proto=getattr(ip, "p", None),  # missing where an extension header is not known
        )
        if headers["proto"] is None:
            del headers["proto"]
    else:
        return headers, None
    return headers | _transport(ip.data), _carried(ip.data)


def _transport(data: Any) -> dict[str, Value]:
    if isinstance(data, dpkt.udp.UDP):
        return {"sport": data.sport, "dport": data.dport, "udp_len": data.ulen, "checksum": data.sum}
    if isinstance(data, dpkt.tcp.TCP):
        return {
            "sport": data.sport,
            "dport": data.dport,
            "checksum": data.sum,
            "tcp_flags": data.flags,
            "tcp_seq": data.seq,
            "tcp_ack": data.ack,
            "tcp_window": data.win,
        }
    return {}


def _carried(data: Any) -> bytes | None:
    if isinstance(data, dpkt.udp.UDP) and data.dport in (4789, 8472) and len(data.data) >= 22:
        return bytes(data.data[8:])
    return None
