"""What of a frame's work is left to the device: checksums and segmentation, switched as `ethtool -K` switches them.

Knows ethtool's ioctl and its words; a device is one of the namespace in which the channel is.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache

from vxtool.lab.netlink import Channel

__all__ = ["set_offload"]

# <linux/sockios.h>, <linux/ethtool.h>
_SIOCETHTOOL = 0x8946
_ETHTOOL_GSTRINGS, _ETHTOOL_GSSET_INFO, _ETHTOOL_GFEATURES, _ETHTOOL_SFEATURES = 0x1B, 0x37, 0x3A, 0x3B
_ETH_SS_FEATURES = 4
_STRING = 32  # bytes
_OFFLOADS = {"tx": "tx-checksum-*", "rx": "rx-checksum", "tso": "tx-tcp*-segmentation", "gso": "tx-generic-segmentation", "gro": "rx-gro"}
"""ethtool(8)'s words, and the kernel's features that each stands for."""


def set_offload(channel: Channel, device: str, words: Iterable[str], on: bool) -> None:
    """Switches those features of the device that it lets be changed, all in one call. OSError when one stays on that is to be off."""
    names = _features(channel, device)
    wanted = {bit for word in words for bit, name in enumerate(names) if fnmatchcase(name, _OFFLOADS[word])}
    blocks = (len(names) + 31) // 32
    masks = [sum(1 << bit % 32 for bit in wanted if bit // 32 == block) for block in range(blocks)]
    pairs = [number for mask in masks for number in (mask, mask if on else 0)]  # which features, and which of them are to be on
    _ethtool(channel, device, struct.pack(f"=II{2 * blocks}I", _ETHTOOL_SFEATURES, blocks, *pairs))
    told = _ethtool(channel, device, struct.pack(f"=II{4 * blocks}I", _ETHTOOL_GFEATURES, blocks, *bytes(4 * blocks)))
    active = struct.unpack(f"=8x{4 * blocks}I", told)[2::4]  # of each block: can be changed, asked for, active, never changed
    if not on and (stays := sorted(names[bit] for bit in wanted if active[bit // 32] >> bit % 32 & 1)):
        raise OSError(errno.EOPNOTSUPP, f"{', '.join(stays)} of {device} cannot be switched off")


@cache
def _feature_names(told: bytes) -> tuple[str, ...]:
    return tuple(told[start : start + _STRING].rstrip(b"\0").decode() for start in range(12, len(told), _STRING))


def _features(channel: Channel, device: str) -> tuple[str, ...]:
    """The names of the kernel's features, in the order of their bits."""
    size = struct.unpack("=16xI", _ethtool(channel, device, struct.pack("=IIQI", _ETHTOOL_GSSET_INFO, 0, 1 << _ETH_SS_FEATURES, 0)))[0]
    return _feature_names(_ethtool(channel, device, struct.pack("=III", _ETHTOOL_GSTRINGS, _ETH_SS_FEATURES, size) + bytes(size * _STRING)))


def _ethtool(channel: Channel, device: str, command: bytes) -> bytes:
    """One command of ethtool's ioctl: the answer is where the question was."""
    question = ctypes.create_string_buffer(command, len(command))
    channel.ioctl(_SIOCETHTOOL, struct.pack("15sxP16x", device.encode(), ctypes.addressof(question)))
    return question.raw
