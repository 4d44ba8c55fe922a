"""Gossip between the nodes of a swarm: who is there, which networks each has joined, and its endpoints and peers in them.

A pure machine: datagrams and requests in, datagrams and requests out, the time given. It opens no socket, starts no thread and reads no clock; port
7946 and both its protocols are the agent's affair.

    machine.py   Gossip: the machine an agent drives
    members.py   who is there: SWIM with Lifeguard's suspicion, as hashicorp/memberlist has it (DefaultLANConfig)
    tables.py    what each node says of its networks: libnetwork's NetworkDB
    rumours.py   what is still to be passed on, and how often
    wire.py      messages as bytes and back
    nouns.py     records, events and intervals

Where it differs from memberlist and NetworkDB, on purpose:

- There is no keyring. Docker encrypts gossip with keys that its managers hand out; here whoever reaches port 7946 can say anything.
- The encoding is JSON instead of msgpack and protobuf, and nothing is compressed. Every datagram introduces its sender, so that whoever hears from a
  node knows it; and a node that is held dead is told so as soon as it says anything, so that it can deny it over UDP alone.
- A node keeps its name when its process starts again, and has a higher life; Docker's takes a new random name. A new life withdraws what the old one
  said.
- A record belongs to its owner: two nodes that use the same key have two records. So a record's time is its owner's count of its own changes, and
  what a node hears about itself that it does not know (a record, a network) it denies with a higher count. In NetworkDB the last writer of a key
  wins, and a node ignores what it hears about itself.
- What a node says about itself is sent at once to up to `Timing.at_once` others, and then at the ticks; memberlist waits for the tick. At a tick all
  goes out that waits, up to `Timing.burst` datagrams to each of three nodes, 0.1 to 0.3 s after the last; NetworkDB sends one per network every
  0.2 s and counts it as told once, where memberlist and we count the ears. A rumour that comes back counts as told once more, so that it dies sooner
  than by its limit alone. Nothing rides on pings and acknowledgements.
- One exchange over TCP does what memberlist's push/pull and NetworkDB's bulk sync do separately: members, networks, and the records of the networks
  that both have joined. It is asked for every 30 s (of one random node, and of one in each network in which that node is not), when a network is
  entered, and whenever a node turns up in a network of ours or comes back from the dead; NetworkDB leaves the last two to its timers.
- A record that does not fit into a datagram travels in exchanges alone: with three nodes at once, and from each of them with three more. NetworkDB
  has it wait for the next bulk sync.
- Others who are asked to probe a node say after 0.4 s that they had no answer. memberlist's say it after 0.5 s, just too late for who asked.
- A node that is dead is asked again every second unless another has its address; NetworkDB compares names, too.
"""

from vxtool.swarm.gossip.machine import Gossip
from vxtool.swarm.gossip.nouns import Event, MemberDown, MemberUp, Record, RecordGone, RecordSet, Standing, State, Timing

__all__ = ["Event", "Gossip", "MemberDown", "MemberUp", "Record", "RecordGone", "RecordSet", "Standing", "State", "Timing"]
