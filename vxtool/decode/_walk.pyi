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
