"""Counting by key: frames and bytes for each combination of some numbers, whole batches at a time, in bounded memory.

Knows numbers; refuses to know what they mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_KEYS", "Groups"]

MOST_KEYS = 50_000
"""Keys a table keeps; as Python objects, when the tables are shown, so many pairs of addresses take some 50 MB."""

# Keys are found by a hash of 64 bits, and two keys with one hash would be counted as one. The multipliers are drawn anew in each process, so that
# nobody can prepare a capture in which that happens.
_MULTIPLIERS = np.frombuffer(os.urandom(8 * 16), np.uint64) | np.uint64(1)
_SHIFT = np.uint64(29)


def _hash(keys: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    mixed = np.zeros(len(keys[0]), np.uint64)
    for key, multiplier in zip(keys, _MULTIPLIERS, strict=False):
        mixed ^= key
        mixed *= multiplier
        mixed ^= mixed >> _SHIFT
    return mixed


class Groups:
    """A table from key (a fixed number of unsigned integers) to frames and bytes.

    It keeps the first `most` different keys; what comes later under other keys is counted together in `other_frames` and `other_bytes`.
    """

    def __init__(self, width: int, most: int = MOST_KEYS) -> None:
        if not 0 < width <= len(_MULTIPLIERS):
            raise ValueError(f"a key has 1 to {len(_MULTIPLIERS)} numbers, not {width}")
        self.width = width
        self.most = most
        self.other_frames = 0
        self.other_bytes = 0
        self._hashes = np.empty(0, np.uint64)  # sorted; the three arrays below are in the same order
        self._keys = np.empty((0, width), np.uint64)
        self._frames = np.empty(0, np.int64)
        self._bytes = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, columns: Sequence[npt.NDArray[np.unsignedinteger]], sizes: npt.NDArray[np.unsignedinteger]) -> None:
        """Counts one frame of sizes[i] bytes under the key columns[0][i], columns[1][i], ..."""
        if not len(sizes):
            return
        keys = [np.ascontiguousarray(column, dtype=np.uint64) for column in columns]
        hashes = _hash(keys)
        at, known = self._find(hashes)
        if not known.all() and len(self) < self.most:
            self._learn(hashes[~known], np.stack([key[~known] for key in keys], axis=1))
            at, known = self._find(hashes)
        if not known.all():  # the table is full
            self.other_frames += int(np.count_nonzero(~known))
            self.other_bytes += int(sizes[~known].sum(dtype=np.int64))
            at, sizes = at[known], sizes[known]
        self._frames += np.bincount(at, minlength=len(self))
        # Sums of one batch as 64-bit floats: exact up to 2**53 bytes.
        self._bytes += np.bincount(at, weights=sizes, minlength=len(self)).astype(np.int64)

    def _find(self, hashes: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        if not len(self):
            return np.zeros(len(hashes), np.intp), np.zeros(len(hashes), bool)
        at = np.searchsorted(self._hashes, hashes)
        np.minimum(at, len(self) - 1, out=at)
        return at, self._hashes[at] == hashes

    def _learn(self, hashes: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]) -> None:
        new, first = np.unique(hashes, return_index=True)
        room = self.most - len(self)
        if len(new) > room:
            # Those seen first, as the docstring says.
            chosen = np.sort(np.argsort(first)[:room])
            new, first = new[chosen], first[chosen]
        where = np.searchsorted(self._hashes, new)
        self._hashes = np.insert(self._hashes, where, new)
        self._keys = np.insert(self._keys, where, keys[first], axis=0)
        self._frames = np.insert(self._frames, where, 0)
        self._bytes = np.insert(self._bytes, where, 0)

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """(key, frames, bytes), in no particular order."""
        for key, frames, size in zip(self._keys.tolist(), self._frames.tolist(), self._bytes.tolist(), strict=True):
            yield tuple(key), frames, size
