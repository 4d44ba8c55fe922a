import numpy as np
import numpy.typing as npt

def row_size() -> int: ...
def layout() -> dict[str, tuple[int, int]]: ...
def walk(
    buffer: npt.NDArray[np.uint8] | bytes,
    index: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.uint8],
    kinds: npt.NDArray[np.uint8],
    guess: bool,
    checksums: bool,
) -> None: ...
def digest(buffer: npt.NDArray[np.uint8], index: npt.NDArray[np.uint8], rows: npt.NDArray[np.uint8], out: npt.NDArray[np.uint64]) -> None: ...
