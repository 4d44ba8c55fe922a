"""A lab in Python: the same one as `vxtool lab up` builds, and the code that starts it.

Knows how a leader is started, and what is asked of a running lab; no namespace and no link. A Lab lives as long as its `with` block. If the process
that made it ends before, however it ends, the kernel takes the lab with it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import vxtool
from vxtool.errors import LabError, MissingFeature
from vxtool.lab import cgroups, client, registry
from vxtool.lab.leader import GO, KEEP
from vxtool.lab.namespaces import CLONE_NEWPID, setns, unshare
from vxtool.lab.registry import Running
from vxtool.lab.spec import EndpointWish, LabSpec, NetworkWish, Options, from_options
from vxtool.lab.topology import Impairment, Topology, parse_delay, parse_loss, parse_rate
from vxtool.model import DATA_PATH_PORT, Cluster, Endpoint, Engine, Network
from vxtool.model.plain import plain, revive

if TYPE_CHECKING:
    from vxtool.lab.places import Place
    from vxtool.lab.sniff import Capture
    from vxtool.swarm.client import SwarmClient
    from vxtool.swarm.facade import Networks, Nodes, Services

__all__ = ["Lab"]

_number = count(1)


class Lab:
    """A whole overlay on this machine.

        with Lab("two_racks", nodes=4) as lab:
            lab.exec("web.1", ["ping", "-c", "1", "10.0.1.4"], check=True)

    What is said of it is what `vxtool lab up` is told: `topology` is a name with parameters ("leaf_spine,n=8"), a file (.py or .yaml) or a Topology;
    `networks` are "web" or "web=10.0.1.0/24"; `endpoints` how many in each network, or a list of EndpointWish. A `spec` says all of that at once.

    Building needs root; MissingFeature says so. LabError when the kernel refuses a step: everything is gone again then.
    """

    def __init__(
        self,
        topology: str | os.PathLike[str] | Topology | None = None,
        *,
        name: str | None = None,
        nodes: int | None = None,
        networks: Sequence[str | NetworkWish] = (),
        endpoints: int | Sequence[EndpointWish] | None = None,
        data_path_port: int | None = None,
        mtu: int | None = None,
        encrypted: bool = False,
        bare: bool = False,
        swarm: bool = False,
        like_docker: bool = False,
        wire: bool = False,
        mtu_from_underlay: bool = False,
        engine: str = Engine.V19_03,
        spec: LabSpec | None = None,
    ) -> None:
        if spec is None:
            spec = from_options(
                topology,
                name=name,
                nodes=nodes,
                networks=networks,
                endpoints=endpoints,
                data_path_port=data_path_port,
                mtu=mtu,
                encrypted=encrypted,
                bare=bare or swarm,
                options=Options(like_docker=like_docker, wire=wire, mtu_from_underlay=mtu_from_underlay, engine=Engine(engine)),
            )
            if name is None:  # so that several can be at once; ids come of the name before, and are the same each time
                spec = replace(spec, name=f"{spec.name}-{os.getpid()}-{next(_number)}")
        self.spec = spec
        self._has_swarm = swarm
        self._running: Running | None = None
        self._leader: subprocess.Popen[bytes] | None = None
        self._word = -1

    # -- its life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def start(self, progress: client.Progress | None = None) -> Running:
        """Builds the lab and returns when it stands. `progress` is told how many steps are done, of how many."""
        registry.need_root()
        registry.sweep()
        with registry.alone() as home:
            place = home / registry.check_name(self.spec.name)
            try:
                place.mkdir(mode=0o700)
            except FileExistsError:
                raise LabError(f"a lab called {place.name} is running already: vxtool lab down {place.name} ends it") from None
            self._launch(place)
        try:
            client.call(self.running, "build", progress=progress, spec=plain(self.spec))
        except BaseException as error:
            last_words = _last_line(place / "log") if isinstance(error, LabError) and self._died() else None
            self.close()
            if last_words:
                raise LabError(f"lab {self.spec.name} died while it was built: {last_words}") from error
            raise
        if self._has_swarm:
            try:
                self.swarm.form([node.name for node in self.spec.topology.nodes], self.spec.cluster.data_path_port or DATA_PATH_PORT)
            except BaseException:
                self.close()
                raise
        return self.running

    def keep(self) -> None:
        """Lets the lab live on when this process has ended, as `vxtool lab up` does. It is then ended by `vxtool lab down`."""
        assert self._leader is not None
        os.write(self._word, KEEP)
        os.close(self._word)
        self._leader.returncode = 0  # no longer ours to wait for
        self._leader = None

    def close(self) -> None:
        """Ends the lab, if it is running: every process, link and namespace of it."""
        if self._running is None:
            return
        registry.end(self._running)
        self._running = None
        if self._leader is not None:
            self._leader.wait()
            self._leader = None
            os.close(self._word)

    @property
    def running(self) -> Running:
        """Where it is: its folder, its leader, the paths of its namespaces."""
        if self._running is None:
            raise LabError(f"lab {self.spec.name} is not running: use it in a with block")
        return self._running

    @property
    def swarm(self) -> SwarmClient:
        """Its swarm, to be asked: `lab.swarm.view()`, `lab.swarm.init(...)`."""
        return client.swarm(self.running)

    @property
    def service(self) -> Services:
        """Services by name, with options called as Docker's flags: `lab.service.create("web", image="httpd", replicas=6, networks=["web"])`."""
        from vxtool.swarm.facade import Services

        return Services(self.swarm)

    @property
    def network(self) -> Networks:
        """The swarm's networks by name: `lab.network.create("web", encrypted=True)`."""
        from vxtool.swarm.facade import Networks

        return Networks(self.swarm)

    @property
    def node(self) -> Nodes:
        """The swarm's nodes by name: `lab.node.update("vm2", availability="drain")`."""
        from vxtool.swarm.facade import Nodes

        return Nodes(self.swarm)

    def _died(self) -> bool:
        """Whether the leader has ended, or is about to: its supervisor's end is seen a moment before its own."""
        assert self._leader is not None
        try:
            self._leader.wait(0.5)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _launch(self, place: Path) -> None:
        """Starts the leader. It makes nothing before it is written down who it is, and everything it makes ends with it."""
        descriptors: list[int] = []
        try:
            lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            descriptors += [lock, log]
            fcntl.flock(lock, fcntl.LOCK_EX)
            groups = cgroups.prepare(registry.group_name(place), place / "cgroups")
            reader, self._word = os.pipe()
            descriptors += [listener := client.listen(place).detach(), reader, starter := os.pidfd_open(os.getpid())]
            self._leader = _process_one(place, (lock, listener, reader, starter), log)
            registry.record(place, self._leader.pid)
            self._running = Running(place.name, place, self._leader.pid)
            cgroups.enter(groups, "lab", self._leader.pid)
            os.write(self._word, GO)
        except BaseException:
            if self._leader is not None:
                self._leader.kill()
                self._leader.wait()
            registry.discard(place)
            self._running = self._leader = None
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # -- what it is, and what it is to be -------------------------------------------------------------------------------------

    @property
    def cluster(self) -> Cluster:
        """What should be at this moment, for `vxtool.verify`."""
        return client.cluster(self.running)

    @property
    def topology(self) -> Topology:
        """The underlay, each link with the impairment it has now."""
        return client.topology(self.running)

    def attach(
        self,
        name: str,
        node: str,
        networks: Sequence[str] | Mapping[str, str | IPv4Address | None],
        *,
        mac: str | None = None,
        duplicate: bool = False,
    ) -> tuple[Endpoint, ...]:
        """A new endpoint: one sandbox, in one or more networks ("web", or "web=10.0.1.9"). `duplicate` allows an address that another has."""
        if isinstance(networks, Mapping):
            networks = [network if address is None else f"{network}={address}" for network, address in networks.items()]
        made = client.call(self.running, "attach", name=name, node=node, networks=list(networks), mac=mac, duplicate=duplicate)
        return tuple(revive(Endpoint, endpoint) for endpoint in made["endpoints"])

    def detach(self, name: str) -> None:
        """Removes an endpoint, and ends the programs in it. `name` is "web.1", or "vm1:web.1" when two nodes have one of that name."""
        client.call(self.running, "detach", name=name)

    def move(self, name: str, node: str) -> None:
        """Moves an endpoint to another node. It keeps its addresses; programs in it end."""
        client.call(self.running, "move", name=name, node=node)

    def add_network(
        self, name: str, *subnets: str, vni: int | None = None, mtu: int | None = None, internal: bool = False, encrypted: bool = False
    ) -> Network:
        """A new overlay network; no node has anything of it before its first endpoint there."""
        made = client.call(self.running, "network_add", name=name, subnets=list(subnets), vni=vni, mtu=mtu, internal=internal, encrypted=encrypted)
        return revive(Network, made["network"])

    def remove_network(self, name: str) -> None:
        """Removes a network without endpoints."""
        client.call(self.running, "network_remove", name=name)

    def impair(
        self,
        link: str,
        *,
        rate: str | int | None = None,
        delay: str | float = 0.0,
        loss: str | float = 0.0,
        down: bool = False,
        seconds: float | None = None,
    ) -> None:
        """Makes a link like this, whatever it was: `rate` "10mbit" or bits per second, `delay` "20ms" or milliseconds, `loss` "1%" or percent.

        With nothing said the link is as good as new. After `seconds`, if given, it is again as it was.
        """
        impairment = Impairment(
            rate=parse_rate(rate) if isinstance(rate, str) else rate,
            delay_ms=parse_delay(delay) if isinstance(delay, str) else float(delay),
            loss=parse_loss(loss) if isinstance(loss, str) else float(loss),
            down=down,
        )
        client.call(self.running, "impair", link=link, impairment=plain(impairment), seconds=seconds)

    # -- what goes on in it -----------------------------------------------------------------------------------------------------

    def place(self, text: str) -> Place:
        """A node, endpoint, link or NETWORK@NODE, as `vxtool lab exec` and `vxtool capture` understand it."""
        from vxtool.lab.places import find

        return find(self.running, text)

    def exec(self, where: str, command: Sequence[str], **how: Any) -> subprocess.CompletedProcess[Any]:
        """Runs a program at a node or in an endpoint to its end, as subprocess.run does; `how` as for vxtool.lab.programs.run."""
        from vxtool.lab import programs

        return programs.run(self.running, self.place(where), command, **how)

    def popen(self, where: str, command: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
        """Starts a program there and returns, as subprocess.Popen does; `how` as for vxtool.lab.programs.start."""
        from vxtool.lab import programs

        return programs.start(self.running, self.place(where), command, **how)

    def capture(self, *places: str, to: str | os.PathLike[str], device: str | None = None, **how: Any) -> Capture:
        """`with lab.capture("vm1", "web.1", to="x.pcapng"):` captures there what happens inside the block, as `vxtool capture` does; `how` as for
        vxtool.lab.sniff.Capture (filter, snaplen, buffer)."""
        from vxtool.lab.sniff import Capture
        from vxtool.lab.vantages import vantages

        return Capture(vantages(self.running, places, device), to=to, **how)


def _process_one(place: Path, descriptors: tuple[int, ...], log: int) -> subprocess.Popen[bytes]:
    """The leader, process 1 of a new process namespace. This process stays where it is; only children of this thread would be born elsewhere."""
    command = [sys.executable, "-P", "-S", "-m", "vxtool.lab.leader", place.name, str(place.resolve()), *map(str, descriptors)]
    # The same vxtool as ours, wherever we were imported from.
    path = os.pathsep.join([str(Path(vxtool.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = os.open("/proc/thread-self/ns/pid", os.O_RDONLY)
    try:
        unshare(CLONE_NEWPID)
    except PermissionError:
        os.close(own)
        raise MissingFeature(
            "this root may not make namespaces (it lacks CAP_SYS_ADMIN): run vxtool outside of the container, or give it --privileged"
        ) from None
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,  # no Ctrl-C from the terminal: whether the lab ends is ours to say
            env=os.environ | {"PYTHONPATH": path},
        )
    finally:
        setns(own, CLONE_NEWPID)
        os.close(own)


def _last_line(log: Path) -> str | None:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return None
    return next((line for line in reversed(lines) if line.strip()), None)
