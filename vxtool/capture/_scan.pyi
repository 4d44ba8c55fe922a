from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Index: TypeAlias = npt.NDArray[np.void]

FRAME_LIMIT: int

class Stop(IntEnum):
    MORE = 0
    FULL = 1
    SECTION = 2
    INTERFACE = 3
    LENGTH = 4
    NONSENSE = 5
    TRAILER = 6
    OVERFULL = 7
    STRANGER = 8
    FOUND = 9
    NOTHING = 10

class PcapScanner:
    frames: int
    header: int
    limit: int
    def __init__(self, *, big: bool, nano: bool, header: int, linktype: int, limit: int) -> None: ...
    def scan(self, data: _Bytes, start: int, end: int, out: _Index, count: int, eof: bool) -> tuple[int, int, int]: ...
    def take(self, data: _Bytes, at: int, after: int, out: _Index, count: int) -> int: ...
    def search(self, data: _Bytes, start: int, end: int, eof: bool) -> tuple[int, int]: ...

class PcapngScanner:
    frames: int
    interfaces: int
    big: bool
    def __init__(self) -> None: ...
    def section(self, *, big: bool, deaf: bool = False) -> None: ...
    def interface(self, *, resolution: int, offset: int, snaplen: int, position: int, linktype: int) -> None: ...
    def scan(self, data: _Bytes, start: int, end: int, out: _Index, count: int, eof: bool) -> tuple[int, int, int]: ...
    def take(self, data: _Bytes, at: int, after: int, out: _Index, count: int) -> int: ...
    def search(self, data: _Bytes, start: int, end: int, eof: bool) -> tuple[int, int]: ...

def pack_pcap(data: _Bytes, index: _Index) -> _Bytes: ...
def pack_pcapng(data: _Bytes, index: _Index, numbers: npt.NDArray[np.uint32]) -> _Bytes: ...
