"""From Frames to rows: what the compiled walk is told, and what it is handed.

Knows which UDP ports carry which tunnel; the protocols themselves are in _walk.pyx.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from vxtool.capture.frames import INDEX, Frames
from vxtool.decode import _walk
from vxtool.decode.columns import ROW, TUNNELS
from vxtool.errors import UsageError

__all__ = ["DEFAULT", "Options", "walk"]

if _walk.row_size() != ROW.itemsize:  # a stale build beside a newer source
    raise ImportError(
        f"vxtool's compiled walk does not match columns.py ({_walk.row_size()} and {ROW.itemsize} bytes a row); build it again: pip install ."
    )


@dataclass(frozen=True, slots=True)
class Options:
    """How frames are to be read. A UDP *destination* port says what a datagram carries; a source port never does."""

    vxlan_ports: frozenset[int] = frozenset({4789, 8472})  # IANA, and Linux before it (flannel's default)
    gpe_ports: frozenset[int] = frozenset({4790})
    geneve_ports: frozenset[int] = frozenset({6081})
    guess: bool = False  # recognise VXLAN by its shape on any other port
    checksums: bool = False  # classify checksums: costs a pass over every byte

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        for tunnel, ports in zip(TUNNELS[1:], (self.vxlan_ports, self.gpe_ports, self.geneve_ports), strict=True):
            for port in ports:
                if not 0 < port < 65536:
                    raise UsageError(f"port {port} is not between 1 and 65535")
                if port in taken:
                    raise UsageError(f"port {port} cannot carry both {taken[port]} and {tunnel}: give each port to one tunnel kind")
                taken[port] = tunnel


DEFAULT = Options()


@lru_cache(maxsize=16)
def _kinds(vxlan: frozenset[int], gpe: frozenset[int], geneve: frozenset[int]) -> npt.NDArray[np.uint8]:
    """For each of the 65,536 ports the tunnel it carries, as a position in TUNNELS."""
    kinds = np.zeros(65536, np.uint8)
    for kind, ports in enumerate((vxlan, gpe, geneve), start=1):
        kinds[sorted(ports)] = kind
    return kinds


def walk(frames: Frames, options: Options = DEFAULT, out: npt.NDArray[np.void] | None = None) -> npt.NDArray[np.void]:
    """One row (dtype columns.ROW) for each frame, in order; a frame that ends early is a row with a `stop`.

    `out`: rows to overwrite and return the first len(frames) of, for callers that are done with the batch before (fresh memory costs 30 ns a row).

    Raises ValueError when the index points outside the buffer, which no reader of vxtool.capture does.
    """
    rows = np.empty(len(frames), ROW) if out is None else out[: len(frames)]
    index = np.ascontiguousarray(frames.index)
    _walk.walk(
        frames.buffer,
        index.view(np.uint8).reshape(len(frames), INDEX.itemsize),
        rows.view(np.uint8).reshape(len(frames), ROW.itemsize),
        _kinds(options.vxlan_ports, options.gpe_ports, options.geneve_ports),
        options.guess,
        options.checksums,
    )
    return rows
