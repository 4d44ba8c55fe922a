"""The machine an agent drives: members and tables, what they have to tell whom, and when. Knows neither sockets nor clocks.

Whoever drives it calls `receive`, `answer`, `answered` and `tick` with the time, and after every call takes what is to be sent (`datagrams`,
`exchanges`) and what has happened (`events`). Before a `tick`, what has arrived is handed over: a node that is late must not blame the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from random import Random
from typing import Any

from vxtool.swarm.gossip import wire
from vxtool.swarm.gossip.members import Member, Members
from vxtool.swarm.gossip.nouns import Event, MemberDown, MemberUp, Record, Standing, State, Timing
from vxtool.swarm.gossip.rumours import Rumours
from vxtool.swarm.gossip.tables import Tables
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Gossip"]

# What an exchange has brought is not passed on as rumours beyond so many: the others have exchanges, too (networkdb: maxQueueLenBroadcastOnSync).
_MOST_RUMOURS = 500
_REAP = 5.0
_FORGET = 3600.0


class Gossip:
    def __init__(self, name: str, address: str, now: float, random: Random, timing: Timing | None = None, incarnation: int = 0) -> None:
        """`name`: the node's id. `incarnation`: higher than at any earlier start of this node (seconds since 1970 will do)."""
        self.name = name
        self.address = address
        self._timing = timing or Timing()
        self._random = random
        self._timers = Timers(now)
        self._me = Member(name, address, incarnation, 0, now)
        self._happened: list[Event] = []
        self._members = Members(self._me, self._timing, random, self._timers, self, self)
        self._tables = Tables(self._me, self._members.all, self._timers, self._timing.tombstone, self, self._happened)
        self._news = Rumours()
        self._datagrams: dict[str, list[bytes]] = {}  # address -> messages
        self._requests: list[tuple[str, bytes]] = []
        # Names may grow by digits, so that what fits now fits later.
        self._space = wire.room((name, address, wire.SAID, wire.SAID), self._timing.datagram)
        self._bootstrap: list[str] = []
        self._met = False
        self._owed: dict[str, None] = {}  # addresses to exchange everything with, now
        self._planned: dict[str, Timer] = {}  # and later
        self._asked: dict[str, Timer] = {}  # exchanges that are waited for, until when
        self._gossiping: Timer | None = None
        self._calling: Timer | None = None
        self._rejoining: Timer | None = None
        self._exchanging = False
        self._reconnecting = False
        self._solid = False  # what is being heard came in an exchange: all of it, and in order
        self._words: dict[str, Callable[..., None]] = {
            "ack": self._members.ack,
            "nack": self._members.nack,
            "alive": self._members.alive,
            "suspect": self._members.suspect,
            "dead": self._members.dead,
            "in": lambda name, life, network, time: self._tables.attached(name, life, network, time, True),
            "out": lambda name, life, network, time: self._tables.attached(name, life, network, time, False),
            "set": self._tables.learn,
            "gone": lambda owner, life, network, table, key, time: self._tables.learn(owner, life, network, table, key, time, None),
        }
        self._timers.after(_REAP, self._reap)
        self._timers.after(_FORGET, self._forget)

    # -- what the node wants -------------------------------------------------------------------------------------------------------

    def meet(self, addresses: Iterable[str]) -> None:
        """Bootstrap: exchanges with these until one answers, and again when none of them is there any more."""
        self._bootstrap = [address for address in dict.fromkeys(addresses) if address != self.address]
        self._met = not self._bootstrap
        for timer in (self._calling, self._rejoining):
            if timer is not None:
                timer.cancel()
        self._call()
        self._rejoining = self._timers.after(self._timing.rejoin, self._rejoin)

    def enter(self, network: str) -> None:
        self._tables.enter(network)

    def leave(self, network: str) -> None:
        """Others withdraw this node's records there; it forgets theirs."""
        self._tables.leave(network)

    def put(self, network: str, table: str, key: str, value: Mapping[str, Any]) -> None:
        """A record of this node's own. Raises ValueError when the node is not in the network, or JSON cannot say it."""
        self._tables.put(network, table, key, value)

    def drop(self, network: str, table: str, key: str) -> None:
        self._tables.drop(network, table, key)

    def farewell(self) -> None:
        """The node leaves: everyone is told, with the next datagrams."""
        message = self._members.leave()
        for member in self._members.ups():
            self.send(member.address, message)
        self.news(("member", self.name), message)

    # -- what reaches it ---------------------------------------------------------------------------------------------------------------

    def receive(self, datagram: bytes, now: float) -> None:
        """UDP. What is not gossip is passed over."""
        heard = self._hear(datagram, 1 << 16, now, solid=False)
        if heard is None:
            return
        (name, address, life, incarnation), rest = heard
        member = self._members.all.get(name)
        if member is not None and member.state is State.DEAD and member.version == (life, incarnation):
            self.send(address, wire.encode("dead", name, life, incarnation, self.name))
        for word, *fields in rest:
            if word == "ping":
                self._members.ping(address, *fields)
            elif word == "ask":
                self._members.ask(address, *fields)

    def answer(self, request: bytes, now: float) -> bytes:
        """TCP: all of a request was read. What to send back; empty when it was no gossip."""
        heard = self._hear(request, wire.LARGEST, now, solid=True)
        if heard is None:
            return b""
        (name, address, *_), rest = heard
        reply: list[bytes] = []
        for word, *fields in rest:
            if word == "sync":
                member = self._members.all.get(name)
                reply += self._state(member)
                if member is not None and set(self._common(member)) <= {network for network in fields[0] if type(network) is str}:
                    self._settle(address)
            elif word == "ping" and fields[1] == self.name:
                reply.append(wire.encode("ack", fields[0]))
        return wire.join(self._sender(), reply)

    def answered(self, address: str, reply: bytes | None, now: float) -> None:
        """What became of a request of ours; None: nobody there."""
        heard = self._hear(reply, wire.LARGEST, now, solid=True) if reply is not None else None
        if heard is None:
            self._timers.now = max(self._timers.now, now)
            if address in self._asked:
                self._fail(address)
        elif any(word == "sync" for word, *_ in heard[1]):
            waited = self._asked.pop(address, None)
            if waited is not None:
                waited.cancel()
            if not self._met and not self._members.leaving:
                self._met = True
                # Whom we have just heard of may not have heard of us.
                self.news(("member", self.name), self._me.alive_message(), at_once=True)

    def tick(self, now: float) -> None:
        self._timers.now = max(self._timers.now, now)
        self._tell_at_once()
        while self._timers.ring(self._timers.now):
            pass
        self._arm()

    def next_due(self) -> float:
        """When `tick` has something to do; before that it may be called, too."""
        self._arm()
        due = self._timers.next_due()
        return inf if due is None else due

    # -- what comes of it ------------------------------------------------------------------------------------------------------------------

    def datagrams(self) -> list[tuple[str, bytes]]:
        """Address and content of what is to be sent by UDP; taken."""
        self._tell_at_once()
        waiting, self._datagrams = self._datagrams, {}
        sender = self._sender()
        packed: list[tuple[str, bytes]] = []
        for address, messages in waiting.items():
            batch: list[bytes] = []
            left = self._space
            for message in messages:
                if len(message) + 1 > left and batch:
                    packed.append((address, wire.join(sender, batch)))
                    batch, left = [], self._space
                batch.append(message)
                left -= len(message) + 1
            packed.append((address, wire.join(sender, batch)))
        return packed

    def exchanges(self) -> list[tuple[str, bytes]]:
        """Address and request: to be sent over TCP, end of writing, all read, `answered` called; taken."""
        taken, self._requests = self._requests, []
        for address in list(self._owed):
            if len(self._asked) >= self._timing.exchanges:
                break
            if address in self._asked:
                continue
            del self._owed[address]
            self._asked[address] = self._timers.after(self._timing.exchange, lambda address=address: self._fail(address))  # type: ignore[misc]
            taken.append((address, wire.join(self._sender(), self._state(self._at(address)))))
        return taken

    def events(self) -> list[Event]:
        """What has happened, in order; taken. Never about this node's own records, nor of networks it is not in."""
        taken = list(self._happened)
        self._happened.clear()
        return taken

    def members(self) -> list[Standing]:
        """The others: those who are there, and those who were."""
        return [member.standing() for member in self._members.all.values()]

    def peers(self, network: str) -> list[Standing]:
        """The nodes that have joined a network, as far as this one knows; itself, too."""
        return [member.standing() for member in (self._me, *self._members.all.values()) if member.up and member.is_in(network)]

    def records(self, network: str) -> list[Record]:
        """All that is known in a network that this node is in; its own, too."""
        return self._tables.records(network)

    # -- for members and tables ------------------------------------------------------------------------------------------------------------

    def send(self, address: str, message: bytes) -> None:
        self._datagrams.setdefault(address, []).append(message)

    def request(self, address: str, message: bytes) -> None:
        self._requests.append((address, wire.join(self._sender(), (message,))))

    def news(self, subject: tuple[str, ...], message: bytes, at_once: bool = False) -> None:
        if self._fits(message):
            self._news.put(subject, message, at_once)

    def again(self, subject: tuple[str, ...]) -> None:
        self._news.heard(subject)

    def spread(self, network: str, subject: tuple[str, ...], message: bytes, at_once: bool = False) -> None:
        rumours = self._tables.rumours[network]
        if not self._fits(message):
            for member in self._some(self._peers(network), self._timing.gossip_nodes):
                self._owe(member.address)
        elif not self._solid or len(rumours) < _MOST_RUMOURS:
            rumours.put(subject, message, at_once)

    def joined(self, member: Member) -> None:
        if self._solid or self.name < member.name:
            self._owe(member.address)
        else:
            # It asks us, most likely: because it knew that we are there when it entered, or else because of its name.
            self._owe(member.address, self._timing.gossip * (1 + self._random.random()))

    def up(self, member: Member, again: bool) -> None:
        self._happened.append(MemberUp(member.name, member.address))
        if again:
            self._owe(member.address)
        if not self._exchanging:
            self._exchanging = True
            self._timers.after(self._timing.push_pull * self._random.random(), self._exchange)

    def down(self, member: Member, why: str) -> None:
        self._tables.withdraw(member)
        self._happened.append(MemberDown(member.name, why))
        if member.state is State.DEAD and not self._reconnecting:
            self._reconnecting = True
            self._timers.after(self._timing.retry, self._reconnect)

    def restarted(self, member: Member, was_up: bool) -> None:
        self._tables.withdraw(member)
        member.networks.clear()
        if was_up:
            self._happened.append(MemberDown(member.name, "restarted"))

    def reborn(self) -> None:
        self._tables.reborn()

    # -- inside ------------------------------------------------------------------------------------------------------------------------------------

    def _hear(self, data: bytes, size: int, now: float, solid: bool) -> tuple[wire.Sender, list[wire.Message]] | None:
        """Who says it, and what of it needs an answer; the rest has had its consequences."""
        said = wire.split(data, size)
        if said is None or said[0][0] == self.name:
            return None
        self._timers.now = max(self._timers.now, now)
        sender, messages = said
        self._solid = solid
        self._members.alive(*sender)
        rest = []
        for message in messages:
            word = self._words.get(message[0])
            if word is None:
                rest.append(message)
            else:
                word(*message[1:])
        self._solid = False
        return sender, rest

    def _sender(self) -> wire.Sender:
        return self.name, self.address, self._me.life, self._me.incarnation

    def _fits(self, message: bytes) -> bool:
        return len(message) < self._space

    def _some(self, members: list[Member], most: int) -> list[Member]:
        return members if len(members) <= most else self._random.sample(members, most)

    def _peers(self, network: str) -> list[Member]:
        return [member for member in self._members.all.values() if member.up and member.is_in(network)]

    def _common(self, member: Member) -> list[str]:
        return [network for network in self._me.inside() if member.is_in(network)]

    def _at(self, address: str) -> Member | None:
        """Whoever is there; a node that is dead may have had the address before."""
        there = [member for member in self._members.all.values() if member.address == address]
        return next((member for member in there if member.up), there[0] if there else None)

    # Telling.

    def _tell_at_once(self) -> None:
        self._tell(urgent=True)

    def _gossip(self) -> None:
        self._gossiping = None
        self._tell(urgent=False)

    def _tell(self, urgent: bool) -> None:
        most = self._timing.at_once if urgent else self._timing.gossip_nodes
        space = self._timing.burst * self._space
        if self._news.urgent if urgent else self._news:
            since = self._timers.now - self._timing.gossip_to_the_dead
            ears = [member for member in self._members.all.values() if member.up or (member.state is State.DEAD and member.changed > since)]
            self._whisper(self._news, ears, self._members.count(), most, space, urgent)
        for network, rumours in self._tables.rumours.items():
            if rumours.urgent if urgent else rumours:
                peers = self._peers(network)
                self._whisper(rumours, peers, len(peers) + 1, most, space, urgent)

    def _whisper(self, rumours: Rumours, ears: list[Member], nodes: int, most: int, space: int, urgent: bool) -> None:
        # With nobody to hear them they are told to nobody, and die: whoever comes later exchanges everything.
        told = self._some(ears, most)
        messages = rumours.take(len(told), self._timing.retransmissions(nodes), space, urgent)
        for member in told:
            self._datagrams.setdefault(member.address, []).extend(messages)

    def _arm(self) -> None:
        if self._gossiping is None and (self._news or any(self._tables.rumours.values())):
            # Never two nodes at the same moment: the later one has heard the earlier, and has less to tell.
            self._gossiping = self._timers.after(self._timing.gossip * (0.5 + self._random.random()), self._gossip)

    # Exchanging.

    def _state(self, member: Member | None) -> list[bytes]:
        """Everything, for a node of which we know this much; None: nothing at all."""
        networks = self._common(member) if member is not None else []
        state = [wire.encode("sync", networks)]
        for other in self._members.all.values():
            if other.state is State.LEFT:
                state.append(wire.encode("dead", other.name, other.life, other.incarnation, other.name))
                continue
            if other.up:
                state.append(other.alive_message())
            if other.state is not State.ALIVE:  # one that is dead to us is but suspect to others: they may know better
                state.append(wire.encode("suspect", other.name, other.life, other.incarnation, self.name))
        state += self._tables.state(networks)
        return state

    def _owe(self, address: str, after: float = 0.0) -> None:
        if self._members.leaving or address in self._owed:
            return
        planned = self._planned.get(address)
        if after:
            if planned is None:
                self._planned[address] = self._timers.after(after, lambda: self._owe(address))
        else:
            if planned is not None:
                planned.cancel()
                del self._planned[address]
            self._owed[address] = None

    def _settle(self, address: str) -> None:
        self._owed.pop(address, None)
        planned = self._planned.pop(address, None)
        if planned is not None:
            planned.cancel()

    def _fail(self, address: str) -> None:
        self._asked.pop(address).cancel()
        member = self._at(address)
        if member is not None and member.up:
            self._owe(address, self._timing.retry)

    def _call(self) -> None:
        if not self._met:
            for address in self._bootstrap:
                self._owe(address)
            self._calling = self._timers.after(self._timing.retry, self._call)

    def _rejoin(self) -> None:
        there = {member.address for member in self._members.ups()}
        if self._bootstrap and there.isdisjoint(self._bootstrap):
            for address in self._bootstrap:
                self._owe(address)
        self._rejoining = self._timers.after(self._timing.rejoin, self._rejoin)

    def _reconnect(self) -> None:
        taken = {self.address, *(member.address for member in self._members.ups())}
        dead = [member.address for member in self._members.all.values() if member.state is State.DEAD and member.address not in taken]
        self._reconnecting = bool(dead) and not self._members.leaving
        if self._reconnecting:
            address = self._random.choice(dead)
            if address not in self._asked:
                self._owe(address)
            self._timers.after(self._timing.retry, self._reconnect)

    def _exchange(self) -> None:
        ups = self._members.ups()
        self._exchanging = bool(ups) and not self._members.leaving
        if not self._exchanging:
            return
        chosen = [self._random.choice(ups)]
        for network in self._me.inside():
            peers = self._peers(network)
            if peers and not any(member.is_in(network) for member in chosen):
                chosen.append(self._random.choice(peers))
        for member in chosen:
            self._owe(member.address)
        self._timers.after(self._timing.push_pull_interval(len(ups) + 1), self._exchange)

    # Forgetting.

    def _reap(self) -> None:
        self._tables.reap()
        self._timers.after(_REAP, self._reap)

    def _forget(self) -> None:
        since = self._timers.now - self._timing.forget
        for member in list(self._members.all.values()):
            if not member.up and member.changed <= since:
                self._members.forget(member.name)
        self._timers.after(_FORGET, self._forget)
