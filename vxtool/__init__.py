"""vxtool: decode captures of VXLAN overlays, and verify them against what the cluster should be.

    vxtool.decode("node1.pcap")         a pandas DataFrame, one row a frame
    vxtool.iter_frames("node1.pcap")    the same in batches of NumPy rows, any size in bounded memory
    vxtool.reference("node1.pcap")      the same rows read through scapy, to check the first two
    vxtool.verify("node1.pcap", cluster)   verdicts about captures, with the frames that prove them
    with vxtool.Lab() as lab: ...       a cluster of one's own on this machine, for as long as the block

Everything is imported when it is first asked for: `import vxtool` loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vxtool.api import decode as decode
    from vxtool.api import iter_frames as iter_frames
    from vxtool.api import reference as reference
    from vxtool.lab.lab import Lab as Lab
    from vxtool.verification import verify as verify

__all__ = ["Lab", "__version__", "decode", "iter_frames", "reference", "verify"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "decode":
        # A package of that name exists too. It is callable (see its __init__.py), so that both meanings hold whatever was imported first.
        import vxtool.decode

        return vxtool.decode
    if name == "verify":
        import vxtool.verify

        return vxtool.verify
    if name in ("iter_frames", "reference"):
        from vxtool import api

        return getattr(api, name)
    if name == "Lab":
        from vxtool.lab.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
