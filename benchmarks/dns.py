"""The embedded DNS of a lab beside that of a real Docker Engine, dnsmasq and a server of dnspython's, asked by dnsperf, all in one run.

    python benchmarks/dns.py                 needs root, dnsperf; and for the others dockerd with host.sh, dnsmasq. Some minutes
    python benchmarks/dns.py --only ours     without the others

All are there at the same time and are asked in turn, each in a network namespace of its own: for one A record over and over; for a mix, half of it
names of 30 tasks; one query at a time, for the time until it is answered; and by 50 sandboxes at once. Of several rounds the best counts. Then what
500 sandboxes cost the resolvers' process in memory and descriptors.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # and not this folder: there, `dns` is this file

RECORDS = 30
MANY = 50
SECONDS = 3
ADDRESS = "127.0.0.11"


@dataclass
class Asked:
    """A server and the namespaces from which it can be asked: the words before a command that make it run there."""

    name: str
    places: list[list[str]]
    names: Mapping[str, str]  # of what is asked for
    figures: dict[str, float] = field(default_factory=dict)


def queries(names: Mapping[str, str]) -> dict[str, list[str]]:
    """What each file for dnsperf has."""
    one, tasks, task, pointer = names["service"], f"tasks.{names['service']}", names["task"], names["pointer"]
    return {"one": [f"{one} A"], "mix": [f"{one} A", f"{tasks} A", f"{task} A", f"{tasks} A", f"{pointer} PTR", f"{tasks} A"]}


def dnsperf(place: Sequence[str], file: Path, *options: str) -> str:
    """`-e`: with EDNS, else 30 records do not fit into a datagram."""
    words = [*place, "dnsperf", "-s", ADDRESS, "-d", str(file), "-e", *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "Queries per second" not in done.stdout:
        raise SystemExit(f"{' '.join(words)}: {done.stderr or done.stdout}")
    lost = re.search(r"Queries lost:\s+(\d+)", done.stdout)
    if lost is not None and int(lost[1]) > 50:
        print(f"  lost: {lost[1]} ({' '.join(words)})", file=sys.stderr)
    return done.stdout


def rate(told: str) -> float:
    found = re.search(r"Queries per second:\s+([\d.]+)", told)
    assert found is not None
    return float(found[1])


def measure(all_asked: Sequence[Asked], folder: Path, rounds: int) -> None:
    """In turn, so that a slow moment of the machine is nobody's alone."""
    for number in range(rounds):
        for asked in all_asked:
            for name, lines in queries(asked.names).items():
                file = folder / f"{asked.name.split()[0]}-{name}.txt"
                file.write_text("".join(f"{line}\n" for line in lines))
                told = dnsperf(asked.places[0], file, "-l", "2", "-q", "1", "-v")
                median = statistics.median(map(float, re.findall(r"^> \S+ .* ([\d.]+)$", told, re.MULTILINE))) * 1e6
                _keep(asked, f"{name}, q/s", rate(dnsperf(asked.places[0], file, "-l", str(SECONDS))), max)
                _keep(asked, f"{name}, median us", median, min)
                if len(asked.places) >= MANY:
                    with ThreadPoolExecutor(MANY) as pool:
                        options = ("-l", str(SECONDS), "-q", "4")
                        rates = pool.map(lambda place, file=file, options=options: rate(dnsperf(place, file, *options)), asked.places[:MANY])  # type: ignore[misc]
                        _keep(asked, f"{name} from {MANY} sandboxes, q/s", sum(rates), max)
            print(f"  round {number + 1}, {asked.name}: {asked.figures}", file=sys.stderr, flush=True)


def _keep(asked: Asked, figure: str, value: float, best: Callable[[float, float], float]) -> None:
    asked.figures[figure] = best(asked.figures.get(figure, value), value)


# -- who is asked ----------------------------------------------------------------------------------------------------------


@contextmanager
def ours() -> Iterator[Asked]:
    from vxtool.lab.lab import Lab
    from vxtool.model import TaskState
    from vxtool.swarm.objects import NetworkSpec, ServiceSpec, Settings, TaskNetwork, TaskSpec

    with Lab(nodes=1, bare=True) as lab:
        node, client = lab.spec.topology.nodes[0].name, lab.swarm
        client.init(node, Settings())
        client.create_network(NetworkSpec("web"))
        sleeper = ("sleep", "100000")
        for name, replicas in (("web", RECORDS), ("more", MANY - RECORDS)):
            client.create_service(ServiceSpec(name, TaskSpec("host", args=sleeper, networks=(TaskNetwork("web"),)), replicas=replicas))
        view = client.view()
        while sum(task.state is TaskState.RUNNING for task in view.tasks.values()) < MANY:
            view = client.wait(10.0)
        tasks = [task for name in ("web", "more") for task in view.tasks_of[view.service(name).id]]
        names = [view.task_name(task) for task in tasks]
        address = next(one.address.ip for one in tasks[0].networks if one.address is not None)
        # As for the others: dnsperf is the machine's own, in the sandbox's network namespace.
        places = [["nsenter", f"--net={lab.running.path(f'{node}:{name}')}", "--"] for name in names]
        yield Asked("ours", places, {"service": "web", "task": names[0], "pointer": address.reverse_pointer})


@contextmanager
def docker(script: Path) -> Iterator[Asked]:
    from tests.netns.engines import engines

    with engines(1, script) as made:
        made.docker(1, "network", "create", "-d", "overlay", "web")
        for name, replicas in (("web", RECORDS), ("more", MANY - RECORDS)):
            words = ("service", "create", "--detach=false", "--quiet", "--no-resolve-image", "--replicas", str(replicas), "--network", "web")
            made.docker(1, *words, "--name", name, "httpd")
        containers = made.docker(1, "ps", "-q", "--no-trunc", "-f", "name=web").split() + made.docker(1, "ps", "-q", "-f", "name=more").split()
        form = '{{.Name}} {{(index .NetworkSettings.Networks "web").IPAddress}}'
        name, address = made.docker(1, "inspect", "-f", form, containers[0]).removeprefix("/").split()
        version = made.docker(1, "version", "-f", "{{.Server.Version}}")
        pointer = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
        places = [made.inside(1, container) for container in containers]
        yield Asked(f"Docker {version}", places, {"service": "web", "task": name, "pointer": pointer})


@contextmanager
def namespace(name: str) -> Iterator[list[str]]:
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


OTHERS = {"service": "web", "task": "web.1.abc", "pointer": "3.1.0.10.in-addr.arpa"}


@contextmanager
def serving(name: str, words: Sequence[str]) -> Iterator[Asked]:
    with namespace(f"vx-bench-{name.split()[0]}") as place, subprocess.Popen([*place, *words], stdout=subprocess.DEVNULL) as process:
        try:
            time.sleep(1.0)
            yield Asked(name, [place], OTHERS)
        finally:
            process.terminate()


@contextmanager
def dnsmasq() -> Iterator[Asked]:
    addresses = [f"10.0.1.{number}" for number in range(3, 3 + RECORDS)]
    with tempfile.NamedTemporaryFile("w", suffix=".hosts") as file:
        lines = ["10.0.1.2 web", *(f"{address} tasks.web" for address in addresses), "10.0.1.3 web.1.abc"]
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.chmod(file.name, 0o644)
        version = subprocess.run(["dnsmasq", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
        words = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--addn-hosts={file.name}", f"--listen-address={ADDRESS}"]
        with serving(f"dnsmasq {version}", [*words, "--bind-interfaces", "--conf-file=/dev/null", "--pid-file=", "--local-ttl=600"]) as asked:
            yield asked


@contextmanager
def dnspython() -> Iterator[Asked]:
    import dns.version

    with serving(f"dnspython {dns.version.version}", [sys.executable, __file__, "--serve-by-dnspython"]) as asked:
        yield asked


def serve_by_dnspython() -> None:
    """What a page of dnspython's documentation would do: each message read, answered and written by the library."""
    import random

    import dns.message
    import dns.rrset

    addresses = [f"10.0.1.{number}" for number in range(3, 3 + RECORDS)]
    known = {
        ("web.", 1): ["10.0.1.2"],
        ("tasks.web.", 1): addresses,
        ("web.1.abc.", 1): ["10.0.1.3"],
        (f"{OTHERS['pointer']}.", 12): ["web.1.abc.web."],
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((ADDRESS, 53))
        while True:
            wire, peer = own.recvfrom(65535)
            query = dns.message.from_wire(wire)
            (question,) = query.question
            reply = dns.message.make_response(query, recursion_available=True)
            data = known[question.name.to_text().lower(), int(question.rdtype)]
            reply.answer = [dns.rrset.from_text(question.name, 600, "IN", question.rdtype, *random.sample(data, len(data)))]
            own.sendto(reply.to_wire(max_size=4096), peer)


# -- memory ----------------------------------------------------------------------------------------------------------------


def memory(sandboxes: int) -> dict[str, float]:
    """A process of resolvers, told of 500 sandboxes as agents tell it: what it grows by, also when each of them has asked for everything."""
    import selectors

    from vxtool.dns.resolvconf import Upstream
    from vxtool.lab import namespaces, naming
    from vxtool.model import Engine
    from vxtool.swarm.timers import Timers

    with tempfile.TemporaryDirectory() as folder:
        boot = "import sys; from vxtool.lab.resolvers import Resolvers; Resolvers({'folder': sys.argv[1]}).run()"
        process = subprocess.Popen([sys.executable, "-c", boot, folder], cwd=Path(__file__).parents[1])
        world = [f"vx-bench-{number}" for number in range(sandboxes)]
        try:
            while not (Path(folder) / naming.SOCKET).exists():
                time.sleep(0.05)
            selector, timers = selectors.DefaultSelector(), Timers(time.monotonic())
            one = naming.Naming("bench", Path(folder), Engine.V19_03, selector, timers)

            def settle() -> None:
                end = time.monotonic() + 1.0
                while time.monotonic() < end:
                    for key, events in selector.select(0.1):
                        key.data(events)

            settle()
            before = _used(process.pid)
            served = naming.Served(("web", "back"), (Upstream("192.0.2.1", False),), False, True)
            for number in range(2 * sandboxes):
                vips = [["n", f"10.0.{number // 50}.2/24"]]
                told = {"name": f"s{number // 50}.{number}.{'x' * 25}", "service": f"s{number // 50}", "service_id": "s", "vips": vips, "ports": []}
                own = f"10.{1 + number // 250}.0.{3 + number % 250}"
                one.set("n", "web", f"e{number}", told | {"address": own, "aliases": ["alias"], "task_aliases": [f"{number:012x}"]})
            for name in world:
                subprocess.run(["ip", "netns", "add", name], check=True)
                subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
                one.serve(name, name, served)
            settle()
            told_of = _used(process.pid)
            for name in world[:: max(1, sandboxes // 100)]:
                with namespaces.inside(namespaces.NETNS / name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
                    asks.connect((ADDRESS, 53))
                    for number in range(0, 2 * sandboxes, 3):
                        asks.send(b"\1\2\1\0\0\1\0\0\0\0\0\0" + _question(f"s{number // 50}.{number}.{'x' * 25}"))
                        asks.send(b"\1\2\1\0\0\1\0\0\0\0\0\0" + _question("alias"))
            settle()
            asked = _used(process.pid)
        finally:
            process.kill()
            process.wait()
            for name in world:
                subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
    return {
        "the process without any, MB": before[0],
        f"{sandboxes} sandboxes and {2 * sandboxes} endpoints, MB more": told_of[0] - before[0],
        "when they have asked for all of them, MB more": asked[0] - before[0],
        "descriptors of a sandbox": (told_of[1] - before[1]) / sandboxes,
    }


def _question(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"


def _used(pid: int) -> tuple[float, int]:
    """Megabytes of its own, and open descriptors."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    own = sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", told, re.MULTILINE))
    return own / 1000, len(os.listdir(f"/proc/{pid}/fd"))


# -- the table ---------------------------------------------------------------------------------------------------------------


def table(all_asked: Sequence[Asked], remembered: Mapping[str, float]) -> Iterator[str]:
    real = next((asked for asked in all_asked if asked.name.startswith("Docker")), None)
    yield f"| | {' | '.join(asked.name for asked in all_asked)} | ours beside Docker's | met |"
    yield f"|---{'|---' * len(all_asked)}|---|---|"
    for figure, value in all_asked[0].figures.items():
        cells = [f"{asked.figures[figure]:,.0f}" if figure in asked.figures else "" for asked in all_asked]
        ratio, met = "", ""
        if real is not None and figure in real.figures:
            share = value / real.figures[figure]
            ratio = f"{share:.2f} x"
            met = "yes" if (share <= 1 if figure.endswith("us") else share >= 1) else "**no**"
        yield f"| {figure} | {' | '.join(cells)} | {ratio} | {met} |"
    yield ""
    yield "| memory of the resolvers' process | measured | target | met |"
    yield "|---|---|---|---|"
    for what, number in remembered.items():
        target = "under 100" if what.endswith("MB more") else ""
        yield f"| {what} | {number:,.1f} | {target} | {('yes' if number < 100 else '**no**') if target else ''} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["ours", "docker", "dnsmasq", "dnspython", "memory"], action="append")
    parser.add_argument("--host", type=Path, help="the script host.sh that starts Docker Engines")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve-by-dnspython", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_by_dnspython:
        return serve_by_dnspython()
    from tests.netns.engines import HOST

    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Linux {platform.release()}, load average {os.getloadavg()[0]:.1f}\n", flush=True)
    servers: dict[str, Any] = {"ours": ours, "docker": lambda: docker(options.host or HOST), "dnsmasq": dnsmasq, "dnspython": dnspython}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(folder, 0o755)
        done = [stack.enter_context(server()) for name, server in servers.items() if options.only is None or name in options.only]
        measure(done, Path(folder), options.rounds)
    remembered = memory(500) if options.only is None or "memory" in options.only else {}
    print("\n".join(table(done, remembered)) if done else remembered)
    return None


if __name__ == "__main__":
    main()
