"""Which networks each member is in, and what it says of its endpoints there: libnetwork's NetworkDB. Knows no address and no failure detector.

Every word has one author, who counts its own words; so of two words about the same thing the one with the higher count holds, in whichever order and
from whomever they come. Records of a network are kept by those alone who are in it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from vxtool.swarm.gossip import wire
from vxtool.swarm.gossip.members import Attachment, Entry, Member
from vxtool.swarm.gossip.nouns import Event, Record, RecordGone, RecordSet
from vxtool.swarm.gossip.rumours import Rumours
from vxtool.swarm.timers import Timers

__all__ = ["Courier", "Tables"]

_MOST_NETWORKS = 4096  # of a member
_MOST_RECORDS = 65536  # of a member in a network


class Courier(Protocol):
    """Who carries words on, and gets states from others."""

    def news(self, subject: tuple[str, ...], message: bytes, at_once: bool = False) -> None: ...

    def again(self, subject: tuple[str, ...]) -> None: ...

    def spread(self, network: str, subject: tuple[str, ...], message: bytes, at_once: bool = False) -> None:
        """A rumour for the members of a network."""

    def joined(self, member: Member) -> None:
        """It is in a network of ours, and we may lack records of it."""


class Tables:
    def __init__(self, me: Member, members: Mapping[str, Member], timers: Timers, tombstone: float, courier: Courier, events: list[Event]) -> None:
        self.rumours: dict[str, Rumours] = {}  # of the networks this node is in
        self._me = me
        self._members = members
        self._timers = timers
        self._tombstone = tombstone
        self._courier = courier
        self._events = events
        self._count = 0
        self._graves: deque[tuple[float, str, str, tuple[str, str] | None]] = deque()  # when, whose, network, which record; None: that it left

    # -- what this node says -------------------------------------------------------------------------------------------------

    def enter(self, network: str) -> None:
        if self._me.is_in(network):
            return
        self.rumours[network] = Rumours()
        self._attach_me(network, True)
        for member in list(self._members.values()):
            if member.up and member.is_in(network):
                self._courier.joined(member)

    def leave(self, network: str) -> None:
        if not self._me.is_in(network):
            return
        self._attach_me(network, False)
        self.rumours.pop(network, None)
        self._me.records.pop(network, None)
        for member in self._members.values():
            self._withdraw(member, network)

    def put(self, network: str, table: str, key: str, value: Mapping[str, Any]) -> None:
        try:
            kept = json.loads(json.dumps(dict(value)))
        except TypeError as error:
            raise ValueError(f"no value of a record: {error}") from None
        if not self._me.is_in(network):
            raise ValueError(f"{self._me.name} is not in network {network} and has nothing to say there")
        known = self._me.records.get(network, {}).get((table, key))
        if known is None or known.value != kept:
            self._write(network, table, key, kept)

    def drop(self, network: str, table: str, key: str) -> None:
        known = self._me.records.get(network, {}).get((table, key))
        if known is not None and known.value is not None:
            self._write(network, table, key, None)

    def renew(self, network: str) -> None:
        """Says everything of a network once more, with higher counts."""
        inside = self._me.is_in(network)
        self._attach_me(network, inside)
        for (table, key), entry in list(self._me.records.get(network, {}).items()):
            self._write(network, table, key, entry.value)

    def reborn(self) -> None:
        for network in list(self._me.networks):
            self.renew(network)

    # -- what others say -----------------------------------------------------------------------------------------------------

    def attached(self, name: str, life: int, network: str, time: int, inside: bool) -> None:
        """A member entered or left a network."""
        if name == self._me.name:
            self._attached_me(life, network, time, inside)
            return
        member = self._members.get(name)
        if member is not None and member.life == life:
            self._attach(member, network, time, inside)

    def learn(self, owner: str, life: int, network: str, table: str, key: str, time: int, value: dict[str, object] | None) -> None:
        """A record was set; None: it was deleted."""
        if not self._me.is_in(network):
            return
        if owner == self._me.name:
            self._learn_of_me(life, network, table, key, time, value)
            return
        member = self._members.get(owner)
        if member is None or member.life != life or not member.up:
            return
        attachment = member.networks.get(network)
        if attachment is not None and time <= attachment.time:
            return
        if attachment is None or not attachment.inside:
            if value is None:
                return
            # It has something there: it must have entered, and that news is still on its way.
            self._attach(member, network, 0 if attachment is None else attachment.time, True)
            if not member.is_in(network):
                return
        records = member.records.setdefault(network, {})
        known = records.get((table, key))
        if known is not None and time <= known.time:
            if time == known.time:
                self.rumours[network].heard((owner, table, key))
            return
        if known is None and len(records) >= _MOST_RECORDS:
            return
        try:
            message = _words(owner, life, network, table, key, time, value)
        except ValueError:  # nested too deeply, or it has an infinite number: nobody of ours wrote it
            return
        records[table, key] = Entry(time, value, message)
        before = None if known is None else known.value
        if value is None:
            self._graves.append((self._timers.now + self._tombstone, owner, network, (table, key)))
            if before is not None:
                self._events.append(RecordGone(Record(network, table, key, owner, before)))
        elif value != before:
            self._events.append(RecordSet(Record(network, table, key, owner, value)))
        self._courier.spread(network, (owner, table, key), message)

    # -- what there is -------------------------------------------------------------------------------------------------------------

    def records(self, network: str) -> list[Record]:
        return [
            Record(network, table, key, member.name, entry.value)
            for member in (self._me, *self._members.values())
            for (table, key), entry in member.records.get(network, {}).items()
            if entry.value is not None
        ]

    def state(self, networks: Iterable[str]) -> Iterator[bytes]:
        """Everything this node knows, as words: who is in which network, and the records of `networks`."""
        for member in (self._me, *self._members.values()):
            if member is self._me or member.up:
                for network, attachment in member.networks.items():
                    yield wire.encode("in" if attachment.inside else "out", member.name, member.life, network, attachment.time)
        for network in networks:
            for member in (self._me, *self._members.values()):
                for entry in member.records.get(network, {}).values():
                    yield entry.wire

    def withdraw(self, member: Member) -> None:
        """It is dead, or lives another life: nobody vouches for its records."""
        for network in list(member.records):
            self._withdraw(member, network)

    def reap(self) -> None:
        """Forgets what was deleted long ago."""
        while self._graves and self._graves[0][0] <= self._timers.now:
            _, name, network, which = self._graves.popleft()
            member = self._me if name == self._me.name else self._members.get(name)
            if member is None:
                continue
            if which is None:
                attachment = member.networks.get(network)
                if attachment is not None and not attachment.inside:
                    del member.networks[network]
                continue
            records = member.records.get(network, {})
            entry = records.get(which)
            if entry is not None and entry.value is None:
                del records[which]

    # -- inside ------------------------------------------------------------------------------------------------------------------

    def _attach_me(self, network: str, inside: bool) -> None:
        self._count += 1
        message = wire.encode("in" if inside else "out", self._me.name, self._me.life, network, self._count)
        self._me.networks[network] = Attachment(self._count, inside)
        self._courier.news(("network", self._me.name, network), message, at_once=True)
        if not inside:
            self._graves.append((self._timers.now + self._tombstone, self._me.name, network, None))

    def _write(self, network: str, table: str, key: str, value: dict[str, object] | None) -> None:
        message = _words(self._me.name, self._me.life, network, table, key, self._count + 1, value)
        self._count += 1
        self._me.records.setdefault(network, {})[table, key] = Entry(self._count, value, message)
        self._courier.spread(network, (self._me.name, table, key), message, at_once=True)
        if value is None:
            self._graves.append((self._timers.now + self._tombstone, self._me.name, network, (table, key)))

    def _attached_me(self, life: int, network: str, time: int, inside: bool) -> None:
        mine = self._me.networks.get(network)
        if life != self._me.life or (mine is None and (not inside or len(self._me.networks) >= _MOST_NETWORKS)):
            return
        if mine is not None and (time, inside) <= (mine.time, mine.inside):
            if time == mine.time:
                self._courier.again(("network", self._me.name, network))
            return
        # Somebody remembers more of this life than this node does.
        self._count = max(self._count, time)
        self.renew(network)

    def _learn_of_me(self, life: int, network: str, table: str, key: str, time: int, value: dict[str, object] | None) -> None:
        if life != self._me.life or time <= self._me.networks[network].time:
            return
        mine = self._me.records.get(network, {}).get((table, key))
        if mine is not None and time <= mine.time:
            if time == mine.time:
                self.rumours[network].heard((self._me.name, table, key))
        elif mine is not None or value is not None:
            self._count = max(self._count, time)
            self._write(network, table, key, None if mine is None else mine.value)

    def _attach(self, member: Member, network: str, time: int, inside: bool) -> None:
        known = member.networks.get(network)
        if known is not None and (time, inside) <= (known.time, known.inside):
            if (time, inside) == (known.time, known.inside):
                self._courier.again(("network", member.name, network))
            return
        if known is None and len(member.networks) >= _MOST_NETWORKS:
            return
        was_inside = member.is_in(network)
        now = member.networks[network] = Attachment(time, inside)
        self._withdraw(member, network, time)
        if not inside:
            self._graves.append((self._timers.now + self._tombstone, member.name, network, None))
            # A record that is newer than its leaving: it has come back, and that news is still on its way.
            now.inside = any(entry.value is not None for entry in member.records.get(network, {}).values())
        self._courier.news(("network", member.name, network), wire.encode("in" if inside else "out", member.name, member.life, network, time))
        if now.inside and not was_inside and member.up and self._me.is_in(network):
            self._courier.joined(member)

    def _withdraw(self, member: Member, network: str, until: int | None = None) -> None:
        """Its records in a network, or those of them that are not newer than `until`."""
        records = member.records.get(network)
        if records is None:
            return
        old = [(which, entry) for which, entry in records.items() if until is None or entry.time <= until]
        for which, entry in old:
            del records[which]
            if entry.value is not None:
                self._events.append(RecordGone(Record(network, *which, member.name, entry.value)))
        if not records:
            del member.records[network]


def _words(owner: str, life: int, network: str, table: str, key: str, time: int, value: dict[str, object] | None) -> bytes:
    if value is None:
        return wire.encode("gone", owner, life, network, table, key, time)
    return wire.encode("set", owner, life, network, table, key, time, value)
