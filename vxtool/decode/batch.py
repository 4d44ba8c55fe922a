"""A batch: frames and the rows read from them, side by side, so that whoever holds a row can still reach its bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vxtool.capture.frames import Frames
from vxtool.decode.columns import ROW

__all__ = ["Batch"]

_OPAQUE = np.dtype((np.void, ROW.itemsize))


@dataclass(frozen=True, slots=True)
class Batch:
    """rows[i] was read from the i-th frame."""

    frames: Frames
    rows: npt.NDArray[np.void]  # dtype columns.ROW

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Batch:
        """The frames and rows that `keep` (a mask, positions or a slice) names."""
        # Copied as opaque records: NumPy copies a structured array field by field, at twenty times the cost.
        return Batch(self.frames.select(keep), self.rows.view(_OPAQUE)[keep].view(ROW))
