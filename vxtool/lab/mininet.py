"""Mininet's own API on a running lab, for scripts that know it: `net["vm1"].cmd("ip addr")`, `popen`, `IP()`, `net.pingAll()`.

Knows Mininet's classes and gives them namespaces that are there already. Makes and ends nothing but shells, each at its host's first command: a lab
with 200 nodes costs 200 Python objects. Mininet's limits, clean-up and links are never used; `vxtool lab down` ends a lab.

    from vxtool.lab.mininet import net
    from vxtool.lab.registry import find

    with net(find(None)) as lab:
        print(lab["sathish-vm1"].cmd("ping -c1", lab["sathish-vm2"].IP()))
        print(lab["web.1"].popen("ip route").communicate())
"""

from __future__ import annotations

import os
from collections.abc import Callable
from subprocess import Popen, run
from typing import Any, Self

from vxtool.errors import LabError, MissingFeature, UsageError
from vxtool.lab import client, names
from vxtool.lab.registry import Running
from vxtool.lab.topology import MachineKind, Topology
from vxtool.model import Cluster, Endpoint, EndpointKind

try:
    from mininet.link import Intf, Link
    from mininet.net import Mininet
    from mininet.node import Node
except ImportError as error:
    raise MissingFeature("Mininet's classes are not installed: pip install 'vxtool[lab]'") from error

__all__ = ["Host", "Interface", "Net", "net"]

Enter = Callable[[str], list[str]]
"""A namespace of the lab -> the words before a command that is to run in it."""


class Host(Node):  # type: ignore[misc]
    """A node, a router, a switch or an endpoint of a lab. Its shell starts at the first `cmd()` and ends with `terminate()`; `pid` is the shell's."""

    def __init__(self, name: str, enter: list[str]) -> None:
        self._enter = enter
        super().__init__(name)

    @classmethod
    def setup(cls) -> None:
        """Mininet's asks for mnexec and ifconfig, and ends the program when they are not there. Neither is needed here."""

    def startShell(self, mnopts: str | None = None) -> None:
        """Called by Mininet when the object is made: too early."""

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:
        self._open()
        super().sendCmd(*args, **kwargs)

    def cmd(self, *args: Any, **kwargs: Any) -> str:
        self._open()
        output: str = super().cmd(*args, **kwargs)
        return output

    def _open(self) -> None:
        if self.shell is not None:
            return
        # Mininet would wait for ever for the prompt of a shell that cannot start.
        tried = run([*self._enter, "true"], capture_output=True, text=True, check=False)
        if tried.returncode:
            raise LabError(f"no command can be run in {self.name}: {tried.stderr.strip() or 'the lab may have ended'}")
        super().startShell()

    def popen(self, *args: Any, **kwargs: Any) -> Popen[Any]:
        process: Popen[Any] = super().popen(*args, **{"mncmd": self._enter, **kwargs})
        return process

    def _popen(self, cmd: list[str], **params: Any) -> Popen[Any]:
        """Every program of Mininet's starts here; its shells as `mnexec -cdn`, which would make a new namespace."""
        if cmd[:2] == ["mnexec", "-cdn"]:
            cmd = [*self._enter, *cmd[2:]]
            params |= {"close_fds": True}
        process: Popen[Any] = super()._popen(cmd, **{"start_new_session": True, **params})
        return process

    def deleteIntfs(self, checkName: bool = True) -> None:
        """They are the lab's."""


class Interface(Intf):  # type: ignore[misc]
    """A device of a lab, as it is."""

    def __init__(self, name: str, node: Host, address: str | None = None, length: int | None = None) -> None:
        super().__init__(name, node, moveIntfFn=lambda *_: None)
        self.ip, self.prefixLen = address, length

    def config(self, **_: Any) -> dict[str, Any]:
        """Mininet's sets it up; it is up."""
        return {}

    def MAC(self) -> str | None:
        return self.mac or self.updateMAC()

    def updateMAC(self) -> str | None:
        words = self.cmd(f"ip -o link show dev {self.name}").split()
        self.mac = words[words.index("link/ether") + 1] if "link/ether" in words else None
        return self.mac

    def updateIP(self) -> str | None:
        words = self.cmd(f"ip -o -4 addr show dev {self.name}").split()
        self.ip = words[words.index("inet") + 1].partition("/")[0] if "inet" in words else None
        return self.ip

    def updateAddr(self) -> tuple[str | None, str | None]:
        return self.updateIP(), self.updateMAC()

    def isUp(self, setUp: bool = False) -> bool:
        return "UP" in self.cmd(f"ip -o link {'set up' if setUp else 'show'} dev {self.name}") or setUp

    def delete(self) -> None:
        raise UsageError(f"{self.name} is the lab's: `vxtool lab down` ends it")


class Joined(Link):  # type: ignore[misc]
    """A link of a lab, as it is."""

    def __init__(self, one: Interface, other: Interface) -> None:
        self.intf1, self.intf2 = one, other
        one.link = other.link = self

    def delete(self) -> None:
        raise UsageError(f"{self} is the lab's: `vxtool lab down` ends it, `vxtool lab impair --down` cuts it")


class Net(Mininet):  # type: ignore[misc]
    """A lab as a Mininet: `hosts` are its nodes and routers, `switches` its switches, and `net[NAME]` knows its endpoints too."""

    def __init__(self, topology: Topology, cluster: Cluster, enter: Enter) -> None:
        # Not Mininet's own: it would set limits of the machine, and build.
        self.topo, self.built, self.inNamespace, self.waitConn = None, True, False, False
        self.hosts: list[Host] = []
        self.switches: list[Host] = []
        self.endpoints: list[Host] = []
        self.controllers: list[Any] = []
        self.links: list[Joined] = []
        self.terms: list[Any] = []
        self.nameToNode: dict[str, Host] = {}
        for machine in topology.machines:
            host = self.nameToNode[machine.name] = Host(machine.name, enter(topology.namespace(machine.name)))
            (self.switches if machine.kind is MachineKind.SWITCH else self.hosts).append(host)
        for link in topology.links:
            one, other = (
                Interface(end.device, self.nameToNode[end.machine], *(str(end.interface).split("/") if end.interface else ())) for end in link.ends
            )
            self.links.append(Joined(one, other))
        self._add_endpoints(cluster, enter)

    def _add_endpoints(self, cluster: Cluster, enter: Enter) -> None:
        sandboxes: dict[tuple[str, str], list[Endpoint]] = {}
        for endpoint in cluster.endpoints:
            if endpoint.node is not None and endpoint.kind in (EndpointKind.TASK, EndpointKind.CONTAINER):
                sandboxes.setdefault((endpoint.node, endpoint.name), []).append(endpoint)
        for (node, name), attachments in sandboxes.items():
            namespace = f"{node}:{name}"
            host = self.nameToNode[namespace] = Host(name, enter(namespace))
            self.nameToNode.setdefault(name, host)  # of two with one name, NODE:NAME tells which
            for device, endpoint in names.interfaces(attachments, cluster.network_by_name):
                network = cluster.network_by_name[endpoint.network]
                length = next((subnet.prefix.prefixlen for subnet in network.subnets if endpoint.ip in subnet.prefix), None)
                Interface(device, host, str(endpoint.ip), length)
            self.endpoints.append(host)

    def start(self) -> None:
        """It runs."""

    def stop(self) -> None:
        """Ends the shells; the lab goes on."""
        for host in (*self.hosts, *self.switches, *self.endpoints):
            host.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def net(running: Running) -> Net:
    """The lab as it is now; what is attached later is not in it. Shells join the lab's processes and end with it."""

    def enter(namespace: str) -> list[str]:
        words = ["nsenter", f"--target={running.leader}", "--pid", "--mount", f"--net={running.path(namespace)}"]
        return [*words, "--", "env", f"--chdir={os.getcwd()}"]

    return Net(*client.topology_and_cluster(running), enter)
