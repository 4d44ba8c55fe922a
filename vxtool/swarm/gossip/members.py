"""Who is there: SWIM, with Lifeguard's suspicion, as memberlist has it. Knows members, never what they have in which network.

A member's word about itself outranks what others say of it when it has a higher (life, incarnation): a life is a process, an incarnation is a denial.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

from vxtool.swarm.gossip import wire
from vxtool.swarm.gossip.nouns import Standing, State, Timing
from vxtool.swarm.timers import Timer, Timers

__all__ = ["Attachment", "Entry", "Listener", "Member", "Members", "Outbox"]

_MOST = 4096  # members that are remembered: strangers can name any number
_MOST_RELAYS = 256

_UP = (State.ALIVE, State.SUSPECT)


class Entry:
    """A record as it is known here. `value` None: it was deleted."""

    __slots__ = ("time", "value", "wire")

    def __init__(self, time: int, value: dict[str, object] | None, wire: bytes) -> None:
        self.time = time
        self.value = value
        self.wire = wire


class Attachment:
    """Whether a member is in a network, since when (on its own count); its records there are newer than that."""

    __slots__ = ("inside", "time")

    def __init__(self, time: int, inside: bool) -> None:
        self.time = time
        self.inside = inside


class Member:
    """What is known of a node; of this one, too."""

    __slots__ = ("address", "changed", "incarnation", "life", "name", "networks", "records", "state", "suspicion")

    def __init__(self, name: str, address: str, life: int, incarnation: int, now: float) -> None:
        self.name = name
        self.address = address
        self.life = life
        self.incarnation = incarnation
        self.state = State.ALIVE
        self.changed = now
        self.suspicion: _Suspicion | None = None
        self.networks: dict[str, Attachment] = {}
        self.records: dict[str, dict[tuple[str, str], Entry]] = {}  # network -> (table, key) -> entry

    @property
    def up(self) -> bool:
        return self.state in _UP

    @property
    def version(self) -> tuple[int, int]:
        return self.life, self.incarnation

    def is_in(self, network: str) -> bool:
        attachment = self.networks.get(network)
        return attachment is not None and attachment.inside

    def inside(self) -> list[str]:
        return [network for network, attachment in self.networks.items() if attachment.inside]

    def alive_message(self) -> bytes:
        return wire.encode("alive", self.name, self.address, self.life, self.incarnation)

    def standing(self) -> Standing:
        return Standing(self.name, self.address, self.state, self.life, self.incarnation)


class _Suspicion:
    __slots__ = ("accusers", "started", "timer")

    def __init__(self, started: float, accuser: str, timer: Timer) -> None:
        self.started = started
        self.accusers = {accuser}
        self.timer = timer


class _Probe:
    """The member that is being probed; memberlist has one at a time."""

    __slots__ = ("acked", "asked", "denied", "number", "target")

    def __init__(self, number: int, target: str) -> None:
        self.number = number
        self.target = target
        self.acked = False
        self.asked = 0  # others who were asked to probe it
        self.denied = 0  # of them, those who are there but had no answer from it either


class Outbox(Protocol):
    """Where a part of the machine leaves what is to be sent."""

    def send(self, address: str, message: bytes) -> None: ...

    def request(self, address: str, message: bytes) -> None: ...

    def news(self, subject: tuple[str, ...], message: bytes, at_once: bool = False) -> None:
        """A rumour for everybody."""

    def again(self, subject: tuple[str, ...]) -> None:
        """Somebody else tells that rumour, too."""


class Listener(Protocol):
    """Who is told of what became of members."""

    def up(self, member: Member, again: bool) -> None:
        """`again`: it was down before."""

    def down(self, member: Member, why: str) -> None: ...

    def restarted(self, member: Member, was_up: bool) -> None:
        """Its life is another one."""

    def reborn(self) -> None:
        """So is this node's: others knew a later one than it began with."""


class Members:
    def __init__(
        self,
        me: Member,
        timing: Timing,
        random: Random,
        timers: Timers,
        outbox: Outbox,
        listener: Listener,
    ) -> None:
        self.me = me
        self.all: dict[str, Member] = {}  # the others
        self.leaving = False
        self.health = 0  # 0: this node keeps its appointments; more: it doubts itself and is slower to accuse others
        self._timing = timing
        self._random = random
        self._timers = timers
        self._out = outbox
        self._listener = listener
        self._number = random.getrandbits(32)
        self._probe: _Probe | None = None
        self._probing = False
        self._round: list[str] = []  # members still to be probed before anybody is again
        self._relays: dict[int, tuple[str, int]] = {}  # number of a ping for somebody else -> its address, its number

    # -- who is there --------------------------------------------------------------------------------------------------------

    def ups(self) -> list[Member]:
        return [member for member in self.all.values() if member.up]

    def count(self) -> int:
        """Members that are there, this one included."""
        return 1 + sum(member.up for member in self.all.values())

    def alive(self, name: str, address: str, life: int, incarnation: int) -> None:
        if name == self.me.name:
            if (life, incarnation) > self.me.version:
                self._deny(life, incarnation)
            return
        member = self.all.get(name)
        if member is None:
            if len(self.all) >= _MOST or not wire.is_address(address):
                return
            member = self.all[name] = Member(name, address, life, incarnation, self._timers.now)
            # At a random place: in order of arrival all nodes would probe a new one at the same time, or none would.
            self._round.insert(self._random.randint(0, len(self._round)), name)
            self._tell(member)
            self._listener.up(member, again=False)
            self._start_probing()
            return
        if (life, incarnation) <= member.version:
            if member.up and (life, incarnation) == member.version:
                self._out.again(("member", name))
            return
        began = life > member.life
        if address != member.address:
            if (member.up and not began) or not wire.is_address(address):
                return  # two nodes go by one name: the first keeps it
            member.address = address
        was_up = member.up
        self._absolve(member)
        member.life, member.incarnation = life, incarnation
        self._turn(member, State.ALIVE)
        self._tell(member)
        if began:
            self._listener.restarted(member, was_up)
        if began or not was_up:
            self._listener.up(member, again=True)
            self._start_probing()

    def suspect(self, name: str, life: int, incarnation: int, accuser: str) -> None:
        if name == self.me.name:
            if (life, incarnation) >= self.me.version:
                self._deny(life, incarnation)
            return
        member = self.all.get(name)
        if member is None or (life, incarnation) < member.version or not member.up or life > member.life:
            return
        suspicion = member.suspicion
        if suspicion is not None:
            wanted = self._timing.confirmations(self.count())
            if accuser in suspicion.accusers or len(suspicion.accusers) > wanted:
                self._out.again(("member", name))
                return
            suspicion.accusers.add(accuser)
            suspicion.timer.cancel()
            over = suspicion.started + self._timing.suspicion_time(self.count(), len(suspicion.accusers) - 1)
            suspicion.timer = self._timers.after(max(0.0, over - self._timers.now), lambda: self._give_up(member))
        else:
            member.incarnation = incarnation
            self._turn(member, State.SUSPECT)
            timer = self._timers.after(self._timing.suspicion_time(self.count(), 0), lambda: self._give_up(member))
            member.suspicion = _Suspicion(self._timers.now, accuser, timer)
        self._out.news(("member", name), wire.encode("suspect", name, life, incarnation, accuser))

    def dead(self, name: str, life: int, incarnation: int, source: str) -> None:
        if name == self.me.name:
            if (life, incarnation) >= self.me.version:
                self._deny(life, incarnation)
            return
        member = self.all.get(name)
        if member is None or (life, incarnation) < member.version or life > member.life:
            return
        left = source == name
        if not member.up:
            if left and member.state is State.DEAD:
                member.state = State.LEFT
            self._out.again(("member", name))
            return
        self._absolve(member)
        member.incarnation = incarnation
        self._turn(member, State.LEFT if left else State.DEAD)
        self._out.news(("member", name), wire.encode("dead", name, life, incarnation, source))
        self._listener.down(member, "left" if left else "failed")

    def leave(self) -> bytes:
        """This node says good-bye: the words for it. From now on it denies nothing."""
        self.leaving = True
        return wire.encode("dead", self.me.name, self.me.life, self.me.incarnation, self.me.name)

    def forget(self, name: str) -> None:
        del self.all[name]

    # -- probing -----------------------------------------------------------------------------------------------------------------

    def ping(self, address: str, number: int, target: str) -> None:
        if target == self.me.name:
            self._out.send(address, wire.encode("ack", number))

    def ack(self, number: int) -> None:
        if self._probe is not None and self._probe.number == number:
            self._probe.acked = True
            return
        relay = self._relays.pop(number, None)
        if relay is not None:
            self._out.send(relay[0], wire.encode("ack", relay[1]))

    def nack(self, number: int) -> None:
        if self._probe is not None and self._probe.number == number:
            self._probe.denied += 1

    def ask(self, asker: str, number: int, target: str, address: str) -> None:
        """Somebody at `asker` wants to know whether we can reach a member that it cannot."""
        if len(self._relays) >= _MOST_RELAYS or not wire.is_address(address):
            return
        own = self._next_number()
        self._relays[own] = asker, number
        self._out.send(address, wire.encode("ping", own, target))
        # memberlist gives it the whole of a probe's timeout, and then the answer comes just too late for the asker.
        self._timers.after(self._timing.probe_timeout * 0.8, lambda: self._relay_failed(own))

    def _relay_failed(self, number: int) -> None:
        relay = self._relays.pop(number, None)
        if relay is not None:
            self._out.send(relay[0], wire.encode("nack", relay[1]))

    def _start_probing(self) -> None:
        if not self._probing:
            self._probing = True
            self._timers.after(self._timing.probe * self._random.random(), self._probe_next)

    def _probe_next(self) -> None:
        if self.leaving or (target := self._next_target()) is None:
            self._probing = False
            return
        probe = self._probe = _Probe(self._next_number(), target.name)
        self._out.send(target.address, wire.encode("ping", probe.number, target.name))
        if target.state is State.SUSPECT:  # the sooner it knows the sooner it can deny it
            self._out.send(target.address, wire.encode("suspect", target.name, target.life, target.incarnation, self.me.name))
        scale = self.health + 1
        self._timers.after(self._timing.probe_timeout * scale, lambda: self._probe_by_others(probe))
        self._timers.after(self._timing.probe * scale, lambda: self._judge(probe))

    def _probe_by_others(self, probe: _Probe) -> None:
        target = self.all.get(probe.target)
        if probe.acked or target is None:
            return
        others = [member for member in self.all.values() if member.state is State.ALIVE and member is not target]
        for other in self._random.sample(others, min(self._timing.indirect, len(others))):
            self._out.send(other.address, wire.encode("ask", probe.number, target.name, target.address))
            probe.asked += 1
        # A firewall that lets TCP pass and not UDP is no reason to be dead.
        self._out.request(target.address, wire.encode("ping", probe.number, target.name))

    def _judge(self, probe: _Probe) -> None:
        self._probe = None
        target = self.all.get(probe.target)
        if probe.acked:
            self._doubt(-1)
        elif target is not None:
            # Others who do not even say that they had no answer: perhaps it is this node that nobody can reach.
            self._doubt(max(0, probe.asked - probe.denied) if probe.asked else 1)
            if target.up:
                self.suspect(target.name, target.life, target.incarnation, self.me.name)
        self._probe_next()

    def _next_target(self) -> Member | None:
        for _ in range(2):
            while self._round:
                member = self.all.get(self._round.pop())
                if member is not None and member.up:
                    return member
            self._round = [member.name for member in self.all.values() if member.up]
            self._random.shuffle(self._round)
        return None

    def _doubt(self, more: int) -> None:
        self.health = min(max(0, self.health + more), self._timing.unhealthy_most - 1)

    def _next_number(self) -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        return self._number

    # -- turns -----------------------------------------------------------------------------------------------------------------------

    def _give_up(self, member: Member) -> None:
        if member.state is State.SUSPECT:
            self.dead(member.name, member.life, member.incarnation, self.me.name)

    def _deny(self, life: int, incarnation: int) -> None:
        if self.leaving:
            return
        reborn = life > self.me.life
        self.me.life, self.me.incarnation = life, incarnation + 1
        self._doubt(1)
        self._out.news(("member", self.me.name), self.me.alive_message(), at_once=True)
        if reborn:
            self._listener.reborn()

    def _turn(self, member: Member, state: State) -> None:
        if member.state is not state:
            member.state = state
            member.changed = self._timers.now

    def _absolve(self, member: Member) -> None:
        if member.suspicion is not None:
            member.suspicion.timer.cancel()
            member.suspicion = None

    def _tell(self, member: Member) -> None:
        self._out.news(("member", member.name), member.alive_message())
