"""rtnetlink: the messages that change links, addresses, routes and neighbours, and a socket that sends many at a time.

Knows the bytes of <linux/rtnetlink.h> and nothing of steps or labs. A message says nothing of a network namespace: it changes the one in which its
`Channel` was opened. Numbers in headers and attributes are in the machine's byte order, addresses in the network's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

from vxtool.model import Mac

__all__ = [
    "DUMP",
    "MOST",
    "REQUEST",
    "Bridge",
    "Channel",
    "Message",
    "Veth",
    "Vxlan",
    "add_address",
    "add_fdb",
    "add_link",
    "add_neighbour",
    "add_route",
    "attribute",
    "attributes",
    "delete_address",
    "delete_fdb",
    "delete_link",
    "delete_neighbour",
    "delete_route",
    "forget_mac",
    "get_fdb",
    "move_link",
    "nested",
    "replace_fdb",
    "set_link",
]


class Message(NamedTuple):
    """A request without its sequence number, which is the channel's to give."""

    kind: int
    flags: int
    body: bytes


# <linux/netlink.h>
REQUEST, _ACK, _REPLACE, _EXCLUSIVE, _CREATE = 0x001, 0x004, 0x100, 0x200, 0x400
_NEW = REQUEST | _CREATE | _EXCLUSIVE
_MULTI, DUMP = 0x002, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NESTED = 0x8000
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_ACK_HAS_ATTRIBUTES = 0x200

# <linux/rtnetlink.h>
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE, _NEWNEIGH, _DELNEIGH, _GETNEIGH = 16, 17, 20, 21, 24, 25, 28, 29, 30

_HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence number, port
_ERROR = struct.Struct("=iIHHII")  # a negative errno, then the header of the request it answers
_ATTRIBUTE = struct.Struct("=HH")  # length with these four bytes, kind
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, device type, index, flags, which flags change
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=8BI")  # struct rtmsg: family, destination and source length, tos, table, protocol, scope, type; flags


# -- links -----------------------------------------------------------------------------------------------------------------

# <linux/if_link.h>, <linux/veth.h>
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_TXQLEN, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 13, 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_VXLAN_ID, _VXLAN_LEARNING, _VXLAN_PROXY, _VXLAN_L2MISS, _VXLAN_L3MISS, _VXLAN_PORT = 1, 7, 11, 13, 14, 15
_BR_VLAN_DEFAULT_PVID = 39
_IFF_UP = 0x1


def attribute(kind: int, data: bytes) -> bytes:
    """Length, kind and data, filled up to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(kind, data) of what follows one another from `start` on; what does not fit ends it."""
    while start + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if not 4 <= length <= len(data) - start:
            return
        yield kind & ~_NESTED, data[start + 4 : start + length]
        start += length + 3 & ~3


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(attributes))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _link(name: str, mtu: int | None = None, mac: Mac | None = None, namespace: int | None = None, queue: int | None = None) -> bytes:
    """What any new link is told: name, MTU (bytes of an IP packet), MAC, open file of the namespace it is made in, transmit queue length."""
    attributes = [_text(_IFLA_IFNAME, name)]
    if mtu is not None:
        attributes.append(_number(_IFLA_MTU, mtu))
    if mac is not None:
        attributes.append(attribute(_IFLA_ADDRESS, mac.value.to_bytes(6, "big")))
    if namespace is not None:
        attributes.append(_number(_IFLA_NET_NS_FD, namespace))
    if queue is not None:
        attributes.append(_number(_IFLA_TXQLEN, queue))
    return b"".join(attributes)


@dataclass(frozen=True, slots=True)
class Veth:
    """The other end of a veth pair; `namespace` (an open file) None: beside the first."""

    name: str
    mtu: int | None = None
    mac: Mac | None = None
    namespace: int | None = None
    queue: int | None = None

    def info(self) -> bytes:
        return nested(_VETH_INFO_PEER, _LINK.pack(0, 0, 0, 0, 0) + _link(self.name, self.mtu, self.mac, self.namespace, self.queue))


@dataclass(frozen=True, slots=True)
class Vxlan:
    """The attributes that Docker's overlay driver sends (libnetwork drivers/overlay/ov_utils.go createVxlan), in that order.

    What is not sent is the kernel's: ttl auto, ageing 300 s, source ports of ip_local_port_range, a UDP checksum.
    """

    vni: int
    port: int  # UDP destination port

    def info(self) -> bytes:
        flags = b"".join(attribute(flag, b"\x01") for flag in (_VXLAN_LEARNING, _VXLAN_PROXY, _VXLAN_L2MISS, _VXLAN_L3MISS))
        return _number(_VXLAN_ID, self.vni) + flags + attribute(_VXLAN_PORT, self.port.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class Bridge:
    default_pvid: int

    def info(self) -> bytes:
        return attribute(_BR_VLAN_DEFAULT_PVID, struct.pack("=H", self.default_pvid))


def add_link(
    kind: str,
    name: str,
    mtu: int | None = None,
    mac: Mac | None = None,
    namespace: int | None = None,
    queue: int | None = None,
    data: Bridge | Veth | Vxlan | None = None,
) -> Message:
    """A link of this kind (`bridge`, `veth`, `vxlan`). With `namespace` it is made there; a VXLAN device still sends and receives in the namespace
    of the channel: what Docker gets by making it here and moving it, and without the wait for every CPU that a move costs."""
    info = [_text(_INFO_KIND, kind)] + ([nested(_INFO_DATA, data.info())] if data is not None else [])
    return Message(_NEWLINK, _NEW, _LINK.pack(0, 0, 0, 0, 0) + _link(name, mtu, mac, namespace, queue) + nested(_IFLA_LINKINFO, *info))


def delete_link(name: str) -> Message:
    return Message(_DELLINK, REQUEST, _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name))


def set_link(name: str, *, up: bool | None = None, mtu: int | None = None, master: int | None = None) -> Message:
    """`master` is the index of a bridge, 0 for none. What is None stays."""
    head = _LINK.pack(0, 0, 0, _IFF_UP if up else 0, 0 if up is None else _IFF_UP)
    master_attribute = b"" if master is None else _number(_IFLA_MASTER, master)
    return Message(_NEWLINK, REQUEST, head + _link(name, mtu) + master_attribute)


def move_link(index: int, name: str, namespace: int | None = None) -> Message:
    """To another namespace, another name, or both at once."""
    return Message(_NEWLINK, REQUEST, _LINK.pack(0, 0, index, 0, 0) + _link(name, namespace=namespace))


# -- addresses and routes --------------------------------------------------------------------------------------------------

# <linux/if_addr.h>, <linux/rtnetlink.h>
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_BOOT, _TYPE_UNICAST = 254, 3, 1
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255


def _address(index: int, interface: IPv4Interface, broadcast: bool) -> bytes:
    head = _ADDRESS.pack(socket.AF_INET, interface.network.prefixlen, 0, _SCOPE_UNIVERSE, index)
    address = interface.ip.packed
    last = attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed) if broadcast else b""
    return head + attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address) + last


def add_address(index: int, interface: IPv4Interface, broadcast: bool) -> Message:
    return Message(_NEWADDR, _NEW, _address(index, interface, broadcast))


def delete_address(index: int, interface: IPv4Interface) -> Message:
    return Message(_DELADDR, REQUEST, _address(index, interface, False))


def _route(protocol: int, scope: int, kind: int, destination: IPv4Network, via: IPv4Address | None, index: int | None) -> bytes:
    head = _ROUTE.pack(socket.AF_INET, destination.prefixlen, 0, 0, _TABLE_MAIN, protocol, scope, kind, 0)
    attributes = [attribute(_RTA_DST, destination.network_address.packed)] if destination.prefixlen else []
    attributes += [attribute(_RTA_GATEWAY, via.packed)] if via is not None else []
    attributes += [_number(_RTA_OIF, index)] if index is not None else []
    return head + b"".join(attributes)


def add_route(destination: IPv4Network, via: IPv4Address | None, index: int | None) -> Message:
    scope = _SCOPE_LINK if via is None else _SCOPE_UNIVERSE
    return Message(_NEWROUTE, _NEW, _route(_PROTOCOL_BOOT, scope, _TYPE_UNICAST, destination, via, index))


def delete_route(destination: IPv4Network, via: IPv4Address | None, index: int | None) -> Message:
    return Message(_DELROUTE, REQUEST, _route(0, _SCOPE_NOWHERE, 0, destination, via, index))


# -- neighbours and forwarding entries -------------------------------------------------------------------------------------

# <linux/neighbour.h>: struct ndmsg (family, index, state, flags, type) and the attributes NDA_DST and NDA_LLADDR. There are thousands of these,
# so each is one pack and no assembly of attributes.
_NEIGHBOUR = struct.Struct("=B3xiHBB HH4s HH6s2x")
_FDB_KEY = struct.Struct("=B3xiHBB HH6s2x")
_FDB_STATE = struct.Struct("=B3xiH")
_NDA_DST, _NDA_LLADDR = 1, 2
_PERMANENT = 0x80
_SELF, _MASTER = 0x02, 0x04  # the entry is the device's own, or its bridge's


def _neighbour(index: int, address: IPv4Address, mac: Mac) -> bytes:
    return _NEIGHBOUR.pack(socket.AF_INET, index, _PERMANENT, 0, 0, 8, _NDA_DST, address.packed, 10, _NDA_LLADDR, mac.value.to_bytes(6, "big"))


def _fdb(index: int, mac: Mac, vtep: IPv4Address) -> bytes:
    return _NEIGHBOUR.pack(socket.AF_BRIDGE, index, _PERMANENT, _SELF, 0, 8, _NDA_DST, vtep.packed, 10, _NDA_LLADDR, mac.value.to_bytes(6, "big"))


def add_neighbour(index: int, address: IPv4Address, mac: Mac) -> Message:
    return Message(_NEWNEIGH, _NEW, _neighbour(index, address, mac))


def delete_neighbour(index: int, address: IPv4Address, mac: Mac) -> Message:
    return Message(_DELNEIGH, REQUEST, _neighbour(index, address, mac))


def add_fdb(index: int, mac: Mac, vtep: IPv4Address) -> Message:
    return Message(_NEWNEIGH, _NEW, _fdb(index, mac, vtep))


def replace_fdb(index: int, mac: Mac, vtep: IPv4Address) -> Message:
    return Message(_NEWNEIGH, REQUEST | _CREATE | _REPLACE, _fdb(index, mac, vtep))


def delete_fdb(index: int, mac: Mac, vtep: IPv4Address) -> Message:
    return Message(_DELNEIGH, REQUEST, _fdb(index, mac, vtep))


def get_fdb(index: int, mac: Mac) -> Message:
    """Asks for one entry of the device's own forwarding database; `Channel.is_permanent` reads the answer."""
    return Message(_GETNEIGH, REQUEST, _fdb_key(index, mac, _SELF))


def forget_mac(index: int, mac: Mac) -> Message:
    """Deletes what the bridge has learned of `mac` at this port."""
    return Message(_DELNEIGH, REQUEST, _fdb_key(index, mac, _MASTER))


def _fdb_key(index: int, mac: Mac, whose: int) -> bytes:
    return _FDB_KEY.pack(socket.AF_BRIDGE, index, 0, whose, 0, 10, _NDA_LLADDR, mac.value.to_bytes(6, "big"))


# -- the socket ------------------------------------------------------------------------------------------------------------

_SIOCGIFINDEX = 0x8933
MOST = 128  # messages at a time: were each refused, the answers would still fit the socket's buffer (212,992 bytes, about 280 answers)
_ANSWER = 32768
_LONGEST_NAME = 15  # bytes of a link's name


class Channel:
    """A socket to the kernel, in the network namespace in which the thread was when it opened it. To be closed.

    Rtnetlink's, unless another protocol of netlink is named. OSError (EPROTONOSUPPORT) when the kernel does not have that one.
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        for option in (_CAP_ACK, _EXT_ACK):  # answers without the request, and with a sentence of the kernel's
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._next = 1  # sequence number

    def close(self) -> None:
        self._socket.close()

    def ioctl(self, request: int, argument: bytes) -> bytes:
        """Any ioctl that a socket knows, in the namespace of this one; the argument as the kernel left it."""
        return fcntl.ioctl(self._socket, request, argument)

    def index(self, device: str) -> int:
        """The number of a link. OSError (ENODEV) when there is none of that name."""
        if len(device.encode()) > _LONGEST_NAME or "\0" in device:  # the kernel would look for what is left when that is cut off
            raise OSError(errno.ENODEV, f"{os.strerror(errno.ENODEV)} ({device})")
        try:
            answer = self.ioctl(_SIOCGIFINDEX, struct.pack("15sxi20x", device.encode(), 0))
        except OSError as error:
            raise OSError(error.errno, f"{os.strerror(error.errno or 0)} ({device})") from None
        return int(struct.unpack_from("=i", answer, 16)[0])

    def send(self, message: Message) -> None:
        """Changes one thing. OSError with the kernel's words when it refuses."""
        refused = self.send_all([message])
        if refused:
            raise refused[0]

    def send_all(self, messages: Sequence[Message]) -> dict[int, OSError]:
        """Sends all, in order, and tells which were refused: position -> why.

        The kernel works each off whatever became of those before it: only for messages that do not depend on one another. Only the last of a
        packet is acknowledged, the others answer when they are refused: most of the time of an entry was its acknowledgement.
        """
        refused: dict[int, OSError] = {}
        for start in range(0, len(messages), MOST):
            part = messages[start : start + MOST]
            first, last = self._next, self._next + len(part) - 1
            self._next = last + 1
            packet = [
                _HEADER.pack(16 + len(body), kind, flags if sequence < last else flags | _ACK, sequence, 0) + body
                for sequence, (kind, flags, body) in enumerate(part, first)
            ]
            self._socket.send(b"".join(packet))
            refused |= {start + sequence - first: error for sequence, error in self._answers(last)}
        return refused

    def ask(self, message: Message) -> list[bytes]:
        """The bodies of what the kernel answers; with the flag DUMP there are any number of them. OSError when it refuses."""
        sequence, self._next = self._next, self._next + 1
        kind, flags, body = message
        self._socket.send(_HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body)
        found: list[bytes] = []
        while True:
            answer = self._socket.recv(_ANSWER)
            place = 0
            while place < len(answer):
                length, what, more, number, _ = _HEADER.unpack_from(answer, place)
                if number == sequence:
                    if what == _NLMSG_ERROR:
                        (error,) = struct.unpack_from("=i", answer, place + 16)
                        raise OSError(-error, os.strerror(-error))
                    if what == _NLMSG_DONE:
                        return found
                    found.append(answer[place + 16 : place + length])
                    if not more & _MULTI:
                        return found
                place += length + 3 & ~3

    def is_permanent(self, index: int, mac: Mac) -> bool:
        """Whether the device has a permanent forwarding entry for `mac`; one it has learned from a frame is not."""
        kind, flags, body = get_fdb(index, mac)
        self._socket.send(_HEADER.pack(16 + len(body), kind, flags, 0, 0) + body)
        answer = self._socket.recv(_ANSWER)
        if _HEADER.unpack_from(answer)[1] != _NEWNEIGH:  # refused, or a kernel before 5.0 that cannot be asked for one
            return False
        return bool(_FDB_STATE.unpack_from(answer, 16)[2] & _PERMANENT)

    def _answers(self, last: int) -> Iterator[tuple[int, OSError]]:
        """The refusals among the answers, up to the one to the sequence number `last`."""
        while True:
            answer = self._socket.recv(_ANSWER)
            _, kind, flags, sequence, _ = _HEADER.unpack_from(answer)
            if kind != _NLMSG_ERROR:
                continue
            number = -_ERROR.unpack_from(answer, 16)[0]
            if number:
                yield sequence, OSError(number, _words(number, answer, flags))
            if sequence == last:
                return


def _words(number: int, answer: bytes, flags: int) -> str:
    """The error's name, and the sentence (NLMSGERR_ATTR_MSG) that newer kernels add."""
    words = os.strerror(number)
    place = 16 + _ERROR.size
    while flags & _ACK_HAS_ATTRIBUTES and place + 4 <= len(answer):
        length, kind = _ATTRIBUTE.unpack_from(answer, place)
        if kind == 1:
            return f"{words} ({answer[place + 4 : place + length].rstrip(bytes(1)).decode(errors='replace')})"
        place += max(4, length + 3 & ~3)
    return words
