"""How long a lab takes, side by side with Mininet's own API for the same topology, and what its overlay carries beside a hand-made one.

    python benchmarks/lab.py                      as root; three minutes
    python benchmarks/lab.py small large          some of: small, nodes, large, throughput, engine

Everything happens in namespaces made for it. `engine` needs a running swarm of real engines: DOCKER_HOSTS names the sockets of two nodes, the
manager's first (DOCKER_HOSTS="unix:///a.sock unix:///b.sock"). Mininet is told not to change the machine's sysctls, which it does at its first start.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PING = ("ping", "-c", "1", "-W", "5", "-n")
SECONDS = 4  # of each round of the throughput measurement
ROUNDS = 3
Row = tuple[str, str, str, bool | None]  # what, measured, target, whether it was met


def vxtool(*arguments: str) -> str:
    return subprocess.run((sys.executable, "-m", "vxtool", *arguments), cwd=ROOT, check=True, capture_output=True, text=True).stdout


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# --------------------------------------------------------------------------------------------------------------------
# Three nodes
# --------------------------------------------------------------------------------------------------------------------


def small() -> Iterator[Row]:
    from vxtool.lab.lab import Lab

    ups, pings, downs, commands, ends = [], [], [], [], []
    for _ in range(5):
        begin = time.perf_counter()
        lab = Lab(nodes=3)
        lab.start()
        ups.append(time.perf_counter() - begin)
        lab.exec("web.1", [*PING, "10.0.1.4"], check=True)
        pings.append(time.perf_counter() - begin)
        downs.append(timed(lab.close))
        begin = time.perf_counter()
        vxtool("lab", "up", "--nodes", "3", "--name", "benchmark")
        commands.append(time.perf_counter() - begin)
        ends.append(timed(lambda: vxtool("lab", "down", "benchmark")))
    yield "3 nodes, 6 endpoints: from nothing to the first ping answered, in Python", f"{min(pings):.2f} s", "0.7 s", min(pings) < 0.7
    yield "of it until the lab stands", f"{min(ups):.2f} s", "", None
    yield "`vxtool lab up --nodes 3`", f"{min(commands):.2f} s", "1.5 s", min(commands) < 1.5
    yield "its end, in Python; `vxtool lab down`", f"{min(downs) * 1000:.0f} ms; {min(ends):.2f} s", "", None


# --------------------------------------------------------------------------------------------------------------------
# 200 nodes, and Mininet's own
# --------------------------------------------------------------------------------------------------------------------

MININET = """
import sys, time
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo
Mininet.inited = True
begin = time.perf_counter()
net = Mininet(SingleSwitchTopo(k=int(sys.argv[1])), switch=LinuxBridge, controller=None, waitConnected=False)
net.start()
print(time.perf_counter() - begin)
begin = time.perf_counter()
net.stop()
print(time.perf_counter() - begin)
"""


def nodes(count: int = 200) -> Iterator[Row]:
    from vxtool.lab.freeing import freed
    from vxtool.lab.lab import Lab

    # In namespaces of its own: switches of Mininet live in the namespace it runs in, and its processes die with this one.
    alone = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    starts, stops, ups, downs = [], [], [], []
    for _ in range(ROUNDS):
        with freed() as wait:  # else the kernel is still busy with what one has left while the other starts
            theirs = subprocess.run((*alone, sys.executable, "-c", MININET, str(count)), capture_output=True, text=True, check=True)
            wait()
        for seconds, where in zip(theirs.stdout.split()[-2:], (starts, stops), strict=True):
            where.append(float(seconds))
        lab = Lab(f"one_segment,n={count}", endpoints=0)
        with freed() as wait:
            ups.append(timed(lab.start))
            downs.append(timed(lab.close))
            wait()
    start, stop, up, down = (min(times) for times in (starts, stops, ups, downs))
    yield f"{count} nodes on one bridge: up", f"{up:.2f} s", f"Mininet's own start, {start:.2f} s: at least 6 x; {start / up:.1f} x", start / up >= 6
    yield f"{count} nodes: down", f"{down * 1000:.0f} ms", f"Mininet's own stop, {stop:.2f} s: at least 20 x; {stop / down:.0f} x", stop / down >= 20


# --------------------------------------------------------------------------------------------------------------------
# 1,000 endpoints
# --------------------------------------------------------------------------------------------------------------------


def available() -> int:
    """Bytes of memory the machine has left."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def entries(lab: object, sandboxes: list[str]) -> int:
    """Permanent neighbour and FDB entries in the kernel, counted by iproute2."""
    count = 0
    for name in sandboxes:
        path = shlex.quote(str(lab.running.path(name)))  # type: ignore[attr-defined]
        shown = subprocess.run(
            f"nsenter --net={path} ip neigh show nud permanent; nsenter --net={path} bridge fdb show dev vxlan0",
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        )
        count += sum(" PERMANENT" in line or " dst " in line for line in shown.stdout.splitlines())
    return count


def large() -> Iterator[Row]:
    from vxtool.lab.freeing import freed
    from vxtool.lab.lab import Lab

    free = available()
    lab = Lab("one_segment,n=50", networks=["a", "b", "c", "d", "e"], endpoints=200)
    up = timed(lab.start)
    memory = free - available()
    endpoints = len(lab.cluster.endpoints)
    ids = [str(network.id)[:10] for network in lab.cluster.networks]
    found = entries(lab, [f"{node.name}:1-{short}" for node in lab.cluster.nodes for short in ids])
    first, last = lab.cluster.endpoints[0], lab.cluster.endpoints[199]
    lab.exec(first.name, [*PING, str(last.ip)], check=True)
    with freed() as wait:
        down = timed(lab.close)
        waited = wait()
    yield f"50 nodes, 5 networks, {endpoints:,} endpoints, {found:,} entries: up", f"{up:.1f} s", "15 s", up < 15
    yield "its memory, for each endpoint", f"{memory / endpoints / 1e6:.2f} MB", "3 MB", memory / endpoints < 3e6
    yield "down returns after (the kernel has freed all namespaces after)", f"{down:.2f} s ({down + waited:.1f} s)", "2 s", down < 2


# --------------------------------------------------------------------------------------------------------------------
# What it carries
# --------------------------------------------------------------------------------------------------------------------

# The same path, typed: a bridge as underlay, two nodes, on each a bridge with a VXLAN device and a veth to a sandbox. No option but those it needs.
BY_HAND = """
ip netns add sw; ip -n sw link add s1 type bridge; ip -n sw link set s1 up
for i in 1 2; do j=$((3 - i))
ip netns add n$i; ip netns add o$i; ip netns add c$i
ip -n sw link add p$i type veth peer name eth0 netns n$i; ip -n sw link set p$i master s1 up
ip -n n$i addr add 192.168.68.$i/24 dev eth0; ip -n n$i link set eth0 up
ip -n n$i link add v0 type vxlan id 5 dstport 4789; ip -n n$i link set v0 netns o$i
ip -n o$i link add br0 type bridge; ip -n o$i link set br0 mtu 1450 up; ip -n o$i link set v0 mtu 1450 master br0 up
ip -n o$i link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns c$i; ip -n o$i link set veth0 master br0 up
ip -n c$i addr add 10.0.1.$i/24 dev eth0; ip -n c$i link set eth0 up
bridge -n o$i fdb append 00:00:00:00:00:00 dev v0 dst 192.168.68.$j
done
ip netns exec c1 ping -c 1 -W 5 -q 10.0.1.2 > /dev/null
"""


def iperf(server: list[str], client: list[str], address: str) -> float:
    """Gbit/s of one TCP stream."""
    serving = subprocess.Popen([*server, "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    sent = subprocess.run([*client, "iperf3", "-c", address, "-t", str(SECONDS), "-J"], capture_output=True, text=True, check=True)
    serving.wait(10)
    return float(json.loads(sent.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def throughput() -> Iterator[Row]:
    from vxtool.lab.lab import Lab

    inside = "mount -t tmpfs tmpfs /run; mkdir /run/netns;" + BY_HAND + "echo ready; read end"
    hand = subprocess.Popen(
        ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-ec", inside), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert hand.stdout is not None
    assert hand.stdin is not None
    if hand.stdout.readline() != b"ready\n":
        raise RuntimeError("the hand-made overlay could not be built")
    child = next(iter(Path(f"/proc/{hand.pid}/task/{hand.pid}/children").read_text().split()))

    def by_hand(number: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{child}/root/run/netns/c{number}"]

    ours, hands, plain = [], [], []
    with Lab(nodes=2) as lab:
        here, there = lab.cluster.endpoints[:2]

        def sandbox(name: str) -> list[str]:
            return ["nsenter", f"--net={lab.running.path(name)}"]

        def endpoint(end: object) -> list[str]:
            return sandbox(f"{end.node}:{end.name}")  # type: ignore[attr-defined]

        near, far = (node.name for node in lab.cluster.nodes)
        for _ in range(ROUNDS):
            hands.append(iperf(by_hand(2), by_hand(1), "10.0.1.2"))
            ours.append(iperf(endpoint(there), endpoint(here), str(there.ip)))
            plain.append(iperf(sandbox(far), sandbox(near), str(lab.cluster.nodes[1].data_path)))
    hand.stdin.close()
    hand.wait(10)
    ratio = statistics.median(ours) / statistics.median(hands)
    yield (
        "one TCP stream through the overlay",
        f"{statistics.median(ours):.2f} Gbit/s",
        f"90 % of a hand-made VXLAN, {statistics.median(hands):.2f} Gbit/s: {ratio:.0%}",
        ratio >= 0.9,
    )
    yield "one TCP stream from node to node", f"{statistics.median(plain):.2f} Gbit/s", "", None


# --------------------------------------------------------------------------------------------------------------------
# A real engine
# --------------------------------------------------------------------------------------------------------------------


def engine() -> Iterator[Row]:
    hosts = os.environ.get("DOCKER_HOSTS", "").split()
    if len(hosts) < 2:
        yield "a real engine", "not measured: DOCKER_HOSTS names none", "", None
        return

    def docker(host: int, *arguments: str) -> str:
        return subprocess.run(("docker", "-H", hosts[host], *arguments), check=True, capture_output=True, text=True).stdout.strip()

    begin = time.perf_counter()
    docker(0, "network", "create", "-d", "overlay", "--attachable", "benchmark")
    made = [(number % 2, docker(number % 2, "run", "-d", "--network", "benchmark", "httpd:latest")) for number in range(6)]
    stood = time.perf_counter() - begin
    address = docker(1, "inspect", "-f", "{{.NetworkSettings.Networks.benchmark.IPAddress}}", made[1][1])
    docker(0, "exec", made[0][1], "ping", "-c", "1", "-W", "5", address)
    yield (
        "a real engine, 2 nodes that are up already: a network and 6 containers, to the first ping",
        f"{time.perf_counter() - begin:.1f} s",
        "",
        None,
    )
    yield "of it until the containers run", f"{stood:.1f} s", "", None
    for host, container in made:
        docker(host, "rm", "-f", container)
    docker(0, "network", "rm", "benchmark")


PARTS: dict[str, Callable[[], Iterator[Row]]] = {"small": small, "nodes": nodes, "large": large, "throughput": throughput, "engine": engine}


def report(parts: Mapping[str, Callable[[], Iterator[Row]]], chosen: Sequence[str] = (), note: str = "") -> None:
    """Measures the chosen parts, or all, and prints a table as it comes."""
    if unknown := set(chosen) - parts.keys():
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    if os.geteuid():
        sys.exit("a lab needs root: run this as root")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, Linux {os.uname().release}{note}\n")
    print("| | measured | target | met |\n|---|---|---|---|")
    for name in chosen or parts:
        for what, value, target, met in parts[name]():
            print(f"| {what} | {value} | {target} | {'' if met is None else 'yes' if met else '**no**'} |", flush=True)


if __name__ == "__main__":
    report(PARTS, sys.argv[1:])
