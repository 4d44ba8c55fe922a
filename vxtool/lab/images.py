"""Images: the table of what a task's container can run.

Knows names and what stands behind them; no registry, no file and no process. A tag or a digest is taken and means nothing: there is one of each.

    httpd    a web server on port 80, or $PORT (workloads/httpd.py)
    echo     says what it hears, TCP and UDP, on port 7, or $PORT (workloads/echo.py)
    host     the machine's own programs; the command line says which
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from vxtool.errors import UsageError
from vxtool.lab.workloads import echo, httpd

__all__ = ["IMAGES", "Image", "find"]

Listen = Callable[[Mapping[str, str]], Callable[[], NoReturn]]
"""Given the environment: opens what the program listens on, and returns the program. UsageError or OSError when that cannot be."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a container runs unless a command line is given, which then replaces it: any program of the machine."""

    name: str
    summary: str
    listen: Listen | None = None  # None: there is nothing without a command line


IMAGES = (
    Image("httpd", "a web server on port 80, or $PORT", httpd.listen),
    Image("echo", "says what it hears, over TCP and UDP, on port 7, or $PORT", echo.listen),
    Image("host", "the machine's own programs"),
)

_BY_NAME = {image.name: image for image in IMAGES}
_OFFICIAL = ("docker.io/library/", "index.docker.io/library/", "docker.io/", "library/")


def find(reference: str) -> Image:
    """The image of a reference, `httpd:2.4` or `docker.io/library/httpd@sha256:...`. UsageError, in the words of a Docker task, for all others."""
    name, _, _ = reference.partition("@")
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
    else:
        tag = "latest"
    short = next((name.removeprefix(prefix) for prefix in _OFFICIAL if name.startswith(prefix)), name)
    if short not in _BY_NAME:
        raise UsageError(f"No such image: {reference if '@' in reference else f'{name}:{tag}'}")
    return _BY_NAME[short]
