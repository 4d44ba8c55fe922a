"""What a lab is asked to be: a topology, the overlay networks on it, the endpoints in them.

Knows YAML and options, and what is filled in when nothing is said; builds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from vxtool.lab.topology import Topology
from vxtool.model import Cluster

__all__ = ["LabSpec", "Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a lab is built, apart from what it is."""

    like_docker: bool = False  # VXLAN devices are made in the node's namespace and moved, as Docker does it
    wire: bool = False  # no segmentation and checksum offload on links of the lab: frames look as on a real wire
    mtu_from_underlay: bool = False  # networks without an MTU of their own get the underlay's smallest less 50, instead of Docker's 1450


@dataclass(frozen=True, slots=True)
class LabSpec:
    """`cluster` is complete: every node has its address, every network its VNI, subnets and MTU, every endpoint its address, MAC and node."""

    name: str
    topology: Topology
    cluster: Cluster
    options: Options
