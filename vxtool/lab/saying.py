"""What a lab's processes write into its log: one line, or one traceback, in one piece.

Knows the form and nothing else. Several processes write to the same file, so each thing said is a single write.
"""

from __future__ import annotations

import os
import time

__all__ = ["say"]


def say(who: str, text: str) -> None:
    """`who`: "manager", "agent of vm1"."""
    os.write(2, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {who}: {text.rstrip()}\n".encode(errors="backslashreplace"))
