from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vxtool.decode.times import Clock

NUMBER: int
SIGNED: int
MAC: int
IP: int
IPV4: int
WORD: int
NAME: int
DYNAMIC: int

def ip_text(hi: int, lo: int, version: int = 0) -> str: ...
def mac_text(mac: int) -> str: ...

class Cells:
    def __init__(
        self,
        plan: list[tuple[int, str, str, str, int, int, list[bytes], int, str, int, bytes]],
        before: bytes,
        after: bytes,
        null: bytes,
        quote: bytes,
    ) -> None: ...
    def render(
        self,
        rows: npt.NDArray[np.uint8],
        start: int,
        names: list[list[bytes]],
        dynamic: Callable[[bytes], tuple[bytes, ...]] | None,
        buffer: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
    ) -> tuple[bytes, int]: ...

class Lines:
    def __init__(self, colour: bool, time: Clock, protocols: list[bytes], ethertypes: dict[int, bytes], icmp: dict[int, bytes]) -> None: ...
    def render(
        self,
        rows: npt.NDArray[np.uint8],
        start: int,
        vantages: list[bytes],
        dynamic: Callable[[bytes], bytes] | None,
        buffer: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
    ) -> tuple[bytes, int]: ...
