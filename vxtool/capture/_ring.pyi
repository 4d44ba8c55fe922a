import numpy as np
import numpy.typing as npt

TAG_ROOM: int

class RingScanner:
    frames: int
    held: int
    def __init__(self, memory: npt.NDArray[np.uint8], *, start: int, size: int, blocks: int, interface: int, vantage: int) -> None: ...
    def scan(self, most: int) -> tuple[npt.NDArray[np.void], list[int]]: ...
    def release(self, blocks: int) -> None: ...
