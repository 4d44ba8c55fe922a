"""Captures: files and pipes in, frames out, and back.

Knows containers (pcap, pcapng, compression), never protocols.

    with open_capture("vm1.pcapng.gz") as capture:
        for frames in capture:  # batches of whole frames, about a megabyte each
            ...
    capture.damage  # places where the file makes no sense
"""

from vxtool.capture.frames import INDEX, Damage, Frames, Interface
from vxtool.capture.merging import merge
from vxtool.capture.reader import Capture, open_capture
from vxtool.capture.writer import CaptureWriter

__all__ = ["INDEX", "Capture", "CaptureWriter", "Damage", "Frames", "Interface", "merge", "open_capture"]
