"""An engine that answers for a LocalSwarm, as far as Docker's own command line asks: it reads our JSON and prints it its way."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

from vxtool.swarm import inspecting
from vxtool.swarm.client import SwarmClient
from vxtool.swarm.view import View

__all__ = ["DOCKER", "engine"]

DOCKER = shutil.which("docker")


class Docker:
    def __init__(self, socket: Path, api: str) -> None:
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(socket.parent), "DOCKER_HOST": f"unix://{socket}", "DOCKER_API_VERSION": api}
        self.posted: list[Any] = []  # specifications

    def __call__(self, *arguments: str) -> str:
        """What `docker ...` prints, stdout and then stderr."""
        assert DOCKER is not None
        ended = subprocess.run([DOCKER, *arguments], capture_output=True, text=True, env=self._environment, timeout=60, check=False)
        return ended.stdout + ended.stderr


@contextmanager
def engine(client: SwarmClient, folder: Path, api: str = "1.40") -> Iterator[Docker]:
    """`api` 1.40: the command line counts a service's tasks itself."""
    if DOCKER is None:
        pytest.skip("needs docker's command line (apt install docker.io)")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """What Docker wants to be made or changed is kept, and not done."""
            docker.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._reply(201 if self.path.endswith("/create") else 200, json.dumps({"ID": "made"}))

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            url = urlparse(self.path)
            path = url.path.removeprefix(f"/v{api}")
            asked = json.loads(parse_qs(url.query).get("filters", ["{}"])[0])
            try:
                status, body = 200, "OK" if path == "/_ping" else json.dumps(_answer(client.view(), path, asked))
            except Exception as error:
                status, body = 404, json.dumps({"message": str(error)})
            self._reply(status, body)

        def _reply(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Api-Version", api)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def address_string(self) -> str:
            return "docker"

    socket = folder / "engine.sock"
    docker = Docker(socket, api)
    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield docker
        finally:
            server.shutdown()
            thread.join()


def _answer(view: View, path: str, asked: dict[str, dict[str, bool]]) -> Any:
    kind, _, name = path.strip("/").partition("/")
    if kind == "services":
        return [inspecting.service(one) for one in view.services.values()] if not name else inspecting.service(view.service(name))
    if kind == "nodes":
        return [inspecting.node(one) for one in view.nodes.values()] if not name else inspecting.node(view.node(name))
    if kind == "networks":
        return inspecting.network(view, view.network(name))
    if kind == "tasks":
        services = {view.service(one).id for one in asked.get("service", {})}
        nodes = {view.node(one).id for one in asked.get("node", {})}
        tasks = (one for one in view.tasks.values() if (not services or one.service in services) and (not nodes or one.node in nodes))
        return [inspecting.task(view, one) for one in tasks]
    if kind == "info":
        manager = view.manager
        assert manager is not None
        return {"Swarm": {"NodeID": manager.id, "NodeAddr": manager.address, "LocalNodeState": "active", "ControlAvailable": True}}
    raise LookupError(f"no such page: {path}")
