"""What the routing mesh costs: new connections through it and one stream beside the plain underlay, and how fast a change of backends is everywhere.

    python benchmarks/mesh.py                           as root; two minutes
    python benchmarks/mesh.py connections change        some of: connections, throughput, change

`connections` and `throughput`: three nodes, one task on the second. `change`: ten nodes and 200 tasks; one goes, and the time is taken when the last
node's balancer has been told, by a process in each sandbox that waits for the kernel to say so (nft monitor).
"""

from __future__ import annotations

import json
import selectors
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.lab import SECONDS, Row, iperf, report  # noqa: E402

ROUNDS = 3
COUNT = 3000  # connections of a round
AT_ONCE = 32
TOWN = ("vm1", "vm2", "vm3")
PORT, PUBLISHED = 8080, 8081


# -- a client: as many connections as it can, a request each; run inside a namespace --------------------------------------------------


def connect(address: str, port: int, count: int, at_once: int) -> float:
    """Connections per second: made, asked GET /, answered whole and closed. OSError when one is not."""
    import socket

    waiting = selectors.DefaultSelector()
    begun = done = 0
    begin = time.perf_counter()
    while done < count:
        while begun < count and begun - done < at_once:
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex((address, port))
            waiting.register(one, selectors.EVENT_WRITE)
            begun += 1
        for key, events in waiting.select(5):
            one = key.fileobj  # type: ignore[assignment]
            if events & selectors.EVENT_WRITE:
                one.send(b"GET / HTTP/1.0\r\n\r\n")
                waiting.modify(one, selectors.EVENT_READ)
            elif not one.recv(4096):
                waiting.unregister(one)
                one.close()
                done += 1
    return count / (time.perf_counter() - begin)


def _rate(where: list[str], address: str, port: int) -> float:
    command = [*where, sys.executable, __file__, "client", address, str(port)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# -- three nodes -------------------------------------------------------------------------------------------------------------------


class Three:
    """Three nodes; one task on the second, published, and a client's sandbox on the first."""

    def __init__(self) -> None:
        from vxtool.lab.lab import Lab
        from vxtool.swarm.objects import EndpointSpec, NetworkSpec, Placement, PortConfig, ServiceSpec, Settings, TaskNetwork, TaskSpec

        self.lab = Lab(nodes=3, bare=True)
        self.lab.start()
        swarm = self.lab.swarm
        self.nodes = [node.name for node in self.lab.spec.topology.nodes]
        info = swarm.init(self.nodes[0], Settings())
        for name in self.nodes[1:]:
            swarm.join(name, info.worker_token, "")
        swarm.create_network(NetworkSpec("web"))
        tasks = {
            "server": TaskSpec("httpd", networks=(TaskNetwork("web"),), placement=Placement((f"node.hostname=={self.nodes[1]}",))),
            "client": TaskSpec("httpd", networks=(TaskNetwork("web"),), placement=Placement((f"node.hostname=={self.nodes[0]}",))),
        }
        for name, task in tasks.items():
            ports = (PortConfig(80, PUBLISHED),) if name == "server" else ()
            swarm.create_service(ServiceSpec(name, task, replicas=1, endpoint=EndpointSpec(ports=ports)))
        until(lambda: all(int(task.state) == 512 for task in swarm.view().tasks.values()) and len(swarm.view().tasks) == 2)
        time.sleep(1)
        view = swarm.view()
        web = view.network("web").id
        (server,), (client,) = (view.tasks_of[view.service(name).id] for name in ("server", "client"))
        self.task = next(str(one.address.ip) for one in server.networks if one.network == web and one.address)
        self.vip = next(str(address.ip) for id, address in view.service("server").vips if id == web)
        self.addresses = [node.address for node in sorted(view.nodes.values(), key=lambda node: node.hostname)]
        self.node, self.far, self.sandbox = (
            self.inside(self.nodes[0]),
            self.inside(self.nodes[1]),
            self.inside(f"{self.nodes[0]}:{view.task_name(client)}"),
        )
        self.server = self.inside(f"{self.nodes[1]}:{view.task_name(server)}")

    def inside(self, namespace: str) -> list[str]:
        return ["nsenter", f"--net={self.lab.running.path(namespace)}"]


def until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise RuntimeError("it does not come about")
        time.sleep(0.05)


def _ratios(measured: dict[str, list[float]], shown: str) -> Iterator[Row]:
    """The median of each, `shown` as a format says, and its share of the first."""
    first = statistics.median(next(iter(measured.values())))
    for number, (what, values) in enumerate(measured.items()):
        value = statistics.median(values)
        yield what, shown.format(value), f"{value / first:.0%} of the first" if number else "", None


def connections() -> Iterator[Row]:
    three = Three()
    try:
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from vxtool.lab.workloads import httpd; httpd.listen({{'PORT': '{PORT}'}})()"
        plain = subprocess.Popen([*three.far, sys.executable, "-c", program], stdout=subprocess.DEVNULL)
        time.sleep(1)
        ways = {
            "new connections node to node, no overlay": (three.node, three.addresses[1], PORT),
            "task to task, by the task's address": (three.sandbox, three.task, 80),
            "task to task, by the virtual address": (three.sandbox, three.vip, 80),
            "through the mesh, entering where the task is": (three.node, three.addresses[1], PUBLISHED),
            "through the mesh, entering at another node": (three.node, three.addresses[2], PUBLISHED),
        }
        measured: dict[str, list[float]] = {what: [] for what in ways}
        for _ in range(ROUNDS):
            for what, way in ways.items():
                measured[what].append(_rate(*way))
        plain.kill()
    finally:
        three.lab.close()
    yield from _ratios(measured, "{:,.0f} connections/s")


def throughput() -> Iterator[Row]:
    three = Three()
    try:
        measured: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for what, server, client, address in (
                ("one TCP stream node to node, no overlay", three.far, three.node, three.addresses[1]),
                ("task to task, by the task's address", three.server, three.sandbox, three.task),
                ("task to task, by the virtual address", three.server, three.sandbox, three.vip),
            ):
                measured.setdefault(what, []).append(iperf(server, client, address))
    finally:
        three.lab.close()
    yield from _ratios(measured, "{:.2f} Gbit/s")


# -- ten nodes -------------------------------------------------------------------------------------------------------------------------


def change() -> Iterator[Row]:
    from vxtool.lab.lab import Lab
    from vxtool.swarm.objects import EndpointSpec, PortConfig, ServiceSpec, Settings, TaskSpec

    with Lab(nodes=10, bare=True) as lab:
        nodes = [node.name for node in lab.spec.topology.nodes]
        info = lab.swarm.init(nodes[0], Settings())
        for name in nodes[1:]:
            lab.swarm.join(name, info.worker_token, "")
        begin = time.monotonic()
        service = lab.swarm.create_service(
            ServiceSpec("web", TaskSpec("httpd"), replicas=200, endpoint=EndpointSpec(ports=(PortConfig(80, PUBLISHED),)))
        )
        sandboxes = [f"{node}:ingress_sbox" for node in nodes]
        until(lambda: sum(int(task.state) == 512 for task in lab.swarm.wait(1.0).tasks.values()) == 200)
        yield "10 nodes, 200 tasks published: created, until all run", f"{time.monotonic() - begin:.1f} s", "", None
        until(lambda: all(_backends(lab, sandbox) == 200 for sandbox in sandboxes))
        yield "until each node balances over all", f"{time.monotonic() - begin:.1f} s", "", None
        times, last = [], 200
        for replicas in (199, 200, 199, 200, 199, 200):
            time.sleep(3)
            with Watch(lab, sandboxes) as watch:
                known = lab.swarm.view().services[service.id]
                asked = time.monotonic()
                lab.swarm.scale_service(known, replicas)
                heard = watch.wait()
            if replicas < last:  # one more has to be started first
                times.append(heard - asked)
            last = replicas
        value = statistics.median(times)
        yield "one of 200 goes: from `service scale` to the last of 10 nodes' balancers", f"{value * 1000:.0f} ms", "200 ms", value < 0.2


class Watch:
    """Waits for the first change of rules in each of the sandboxes."""

    def __init__(self, lab: Any, sandboxes: list[str]) -> None:
        commands = [["nsenter", f"--net={lab.running.path(sandbox)}", "nft", "monitor", "rules"] for sandbox in sandboxes]
        self._running = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]

    def __enter__(self) -> Watch:
        time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def wait(self) -> float:
        waiting = selectors.DefaultSelector()
        for process in self._running:
            assert process.stdout is not None
            waiting.register(process.stdout, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select(20) or [(None, 0)]:
                if key is None:
                    raise RuntimeError("a balancer was not told")
                waiting.unregister(key.fileobj)
            last = time.monotonic()
        return last


def _backends(lab: Any, sandbox: str) -> int:
    shown = subprocess.run(
        ["nsenter", f"--net={lab.running.path(sandbox)}", "nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True
    )
    expressions = [one for entry in json.loads(shown.stdout)["nftables"] for one in entry.get("rule", {}).get("expr", ())]
    return sum(len(one["dnat"]["addr"]["map"]["data"]["set"]) for one in expressions if "dnat" in one and "map" in one["dnat"]["addr"])


PARTS: dict[str, Callable[[], Iterator[Row]]] = {"connections": connections, "throughput": throughput, "change": change}


def main(chosen: list[str]) -> None:
    if chosen[:1] == ["client"]:
        print(connect(chosen[1], int(chosen[2]), COUNT, AT_ONCE))
        return
    report(PARTS, chosen, f"; streams of {SECONDS} s")


if __name__ == "__main__":
    main(sys.argv[1:])
