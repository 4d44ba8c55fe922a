"""IPVS: services for firewall marks and their backends, in the network namespace in which the calling thread is.

Knows the bytes of <linux/ip_vs.h> in generic netlink; nothing of swarms, and no marks: those are rules' affair.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from ipaddress import IPv4Address

from vxtool.lab.netlink import REQUEST, Channel, Message, attribute, attributes, nested

__all__ = ["set_backends", "works"]

Backends = tuple[tuple[IPv4Address, int], ...]

NETLINK_GENERIC = 16

# <linux/genetlink.h>
_CONTROL, _GETFAMILY = 16, 3
_FAMILY_ID, _FAMILY_NAME = 1, 2

# <linux/ip_vs.h>
_NEW_SERVICE, _DEL_SERVICE, _NEW_DEST, _SET_DEST, _DEL_DEST = 1, 3, 5, 6, 7
_SERVICE, _DEST = 1, 2
_SVC_AF, _SVC_FWMARK, _SVC_SCHED_NAME, _SVC_FLAGS, _SVC_TIMEOUT, _SVC_NETMASK = 1, 5, 6, 7, 8, 9
_DEST_ADDR, _DEST_PORT, _DEST_FWD_METHOD, _DEST_WEIGHT, _DEST_U_THRESH, _DEST_L_THRESH, _DEST_ADDR_FAMILY = 1, 2, 3, 4, 5, 6, 11
_MASQUERADE = 0
_ALL = 0xFFFFFFFF  # no netmask: every client for itself


def set_backends(mark: int, wanted: Backends | None, had: Backends | None) -> None:
    """From `had` to `wanted`; None is no service. OSError when the kernel refuses; then it is as it was."""
    with closing(Channel(NETLINK_GENERIC)) as channel:
        number = _family(channel, "IPVS")
        try:
            for command, body in _changes(mark, wanted, had):
                channel.send(_message(number, command, body))
        except OSError:
            for command, body in _changes(mark, had, wanted):
                with suppress(OSError):
                    channel.send(_message(number, command, body))
            raise


def works() -> bool:
    """Whether this kernel has IPVS with round robin, by trying it with a mark that nobody has."""
    with suppress(OSError):
        set_backends(_ALL, (), None)
        set_backends(_ALL, None, ())
        return True
    return False


def _family(channel: Channel, name: str) -> int:
    """The number of a generic netlink family; the kernel loads the family's module if it can. OSError (ENOENT) when there is none."""
    try:
        (answer,) = channel.ask(_message(_CONTROL, _GETFAMILY, attribute(_FAMILY_NAME, name.encode() + b"\0")))
    except FileNotFoundError:
        raise OSError(errno.EOPNOTSUPP, f"the kernel knows no family {name}") from None  # as other features that are missing
    return next(int(struct.unpack("=H", data)[0]) for kind, data in attributes(answer, 4) if kind == _FAMILY_ID)


def _message(family: int, command: int, body: bytes) -> Message:
    return Message(family, REQUEST, struct.pack("=BBH", command, 1, 0) + body)


def _changes(mark: int, wanted: Backends | None, had: Backends | None) -> Iterator[tuple[int, bytes]]:
    service = attribute(_SVC_AF, struct.pack("=H", socket.AF_INET)) + attribute(_SVC_FWMARK, struct.pack("=I", mark))
    which = nested(_SERVICE, service)
    if wanted is None:
        yield _DEL_SERVICE, which
        return
    if had is None:
        how = attribute(_SVC_FLAGS, struct.pack("=II", 0, _ALL)) + attribute(_SVC_TIMEOUT, bytes(4))
        how += attribute(_SVC_NETMASK, struct.pack("=I", _ALL))
        yield _NEW_SERVICE, nested(_SERVICE, service, attribute(_SVC_SCHED_NAME, b"rr\0"), how)
    before, after = dict(had or ()), dict(wanted)
    for address, weight in wanted:
        if before.get(address) != weight:
            yield _SET_DEST if address in before else _NEW_DEST, which + nested(_DEST, _backend(address), _how(weight))
    for address in before:
        if address not in after:
            yield _DEL_DEST, which + nested(_DEST, _backend(address))


def _backend(address: IPv4Address) -> bytes:
    """Port 0: the one the client asked for."""
    family = attribute(_DEST_ADDR_FAMILY, struct.pack("=H", socket.AF_INET))
    return family + attribute(_DEST_ADDR, address.packed + bytes(12)) + attribute(_DEST_PORT, bytes(2))


def _how(weight: int) -> bytes:
    numbers = ((_DEST_FWD_METHOD, _MASQUERADE), (_DEST_WEIGHT, weight), (_DEST_U_THRESH, 0), (_DEST_L_THRESH, 0))
    return b"".join(attribute(kind, struct.pack("=I", number)) for kind, number in numbers)
