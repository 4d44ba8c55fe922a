"""A real swarm beside ours: Docker Engines of this machine in namespaces of their own, by the script host.sh, for as long as a block lasts.

Knows the script and nothing of what is compared. The process goes into a mount namespace of its own: several such swarms may be there.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vxtool.lab import namespaces

__all__ = ["HOST", "Engines", "engines"]

HOST = Path(__file__).parents[3] / "shared" / "realswarm" / "host.sh"


class Engines:
    """Node 1 is the manager. A command that fails ends the program with what it said."""

    def __init__(self, script: Path) -> None:
        self._script = script

    def run(self, *words: str) -> str:
        done = subprocess.run([str(self._script), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self._script} {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def docker(self, node: int, *words: str) -> str:
        return self.run("docker", str(node), *words).strip()

    def inside(self, node: int, container: str) -> list[str]:
        """The words before a command that make it run in the network namespace of a container."""
        return ["nsenter", f"--net=/proc/{self.docker(node, 'inspect', '-f', '{{.State.Pid}}', container)}/ns/net", "--"]


@contextmanager
def engines(count: int, script: Path = HOST) -> Iterator[Engines]:
    if not script.exists():
        raise SystemExit(f"{script}: no such script; it starts Docker Engines in namespaces, and the option --host says where it is")
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.mount("", "/", flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("tmpfs", namespaces.NETNS, "tmpfs", 0, "mode=755")
    with tempfile.TemporaryDirectory(prefix="engines") as folder:
        os.environ["REALSWARM_DIR"] = f"{folder}/swarm"
        made = Engines(script)
        try:
            made.run("up", str(count))
            yield made
        finally:
            made.run("down")
