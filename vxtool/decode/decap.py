"""The inner Ethernet frames of tunnels, as frames of their own.

Knows where the walk found them; changes no byte.
"""

from __future__ import annotations

import numpy as np

from vxtool.capture.frames import Frames, Interface
from vxtool.decode.batch import Batch
from vxtool.decode.columns import HEADER_HAVE

__all__ = ["inner_frames"]

ETHERNET = 1
"""LINKTYPE_ETHERNET"""


def inner_frames(batch: Batch) -> Frames:
    """The innermost Ethernet frame of each row that has one inside a tunnel, in order, in the same buffer; the other rows are left out.

    Times, frame numbers, vantages and interface names stay. A frame ends where the outer IP packet does: padding and checksums of the outer Ethernet
    frame belong to nobody inside. `caplen` is less than `wirelen` where the capture was.
    """
    rows, index = batch.rows, batch.frames.index
    which = (rows["depth"] > 0) & (rows["inner_have"] & HEADER_HAVE["eth_dst"] != 0)
    rows, index = rows[which], index[which].copy()
    start = rows["inner_eth_offset"].astype(np.int64)
    trailer = np.where(rows["outer_have"] & HEADER_HAVE["trailer"] != 0, rows["outer_trailer"], 0)
    end = np.maximum(index["wirelen"].astype(np.int64) - trailer, start)
    index["offset"] += start
    index["caplen"] = np.maximum(np.minimum(index["caplen"], end) - start, 0)
    index["wirelen"] = end - start
    index["linktype"] = ETHERNET
    interfaces = tuple(Interface(ETHERNET, known.name, known.description, 0, known.os) for known in batch.frames.interfaces)
    return Frames(batch.frames.buffer, index, interfaces, batch.frames.vantages)
