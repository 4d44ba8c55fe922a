"""What a packet filter's rules mean, in the same words whether iptables or nft wrote them.

Knows the conditions and verdicts that Docker's rules and the lab's are made of. A word it does not know stays as it is, so that two rules are never
called the same because one of them was not understood.

    -A POSTROUTING -s 172.18.0.0/16 ! -o docker_gwbridge -j MASQUERADE           (iptables, table nat)
    ip saddr 172.18.0.0/16 oifname != "docker_gwbridge" masquerade               (nft, hook postrouting of type nat)
    nat postrouting: oif != docker_gwbridge, saddr 172.18.0.0/16: masquerade     (here)
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from vxtool.lab.records import Fields, Key

__all__ = ["meaning"]

_CONDITIONS = {
    "-s": "saddr",
    "-d": "daddr",
    "-i": "iif",
    "-o": "oif",
    "-p": "proto",
    "--dport": "dport",
    "--sport": "sport",
    "--ctstate": "state",
    "--state": "state",
    "--dst-type": "daddr",
    "--src-type": "saddr",
}
"""Options of iptables -> conditions."""

_VERDICT_OPTIONS = {"--to-destination": "to", "--to-source": "to", "--to-ports": "to", "--set-xmark": "set"}

_NFT_WORDS: Mapping[tuple[str, ...], str] = {
    ("ip", "saddr"): "saddr",
    ("ip", "daddr"): "daddr",
    ("iifname",): "iif",
    ("oifname",): "oif",
    ("tcp", "dport"): "proto tcp, dport",
    ("udp", "dport"): "proto udp, dport",
    ("tcp", "sport"): "proto tcp, sport",
    ("udp", "sport"): "proto udp, sport",
    ("ip", "protocol"): "proto",
    ("meta", "l4proto"): "proto",
    ("ct", "state"): "state",
    ("fib", "daddr", "type"): "daddr",
    ("fib", "saddr", "type"): "saddr",
    ("meta", "ipsec"): "ipsec",
    ("@th,96,24",): "vni",
}
"""How nft begins a condition -> its name; a value (and perhaps `!=` before it) follows."""

_VERDICTS = {"accept", "drop", "return", "masquerade"}
_CHAIN = re.compile(r"type (?P<type>\w+) hook (?P<hook>\w+)(?: device \S+)? priority .*")
_TYPES = {"mangle": "route"}  # iptables' table mangle, hook OUTPUT, is a chain of type route
_VNI = re.compile(r"0x0>>0x16&0x3c@0xc&0xffffff00=(0x[0-9a-f]+)00")  # the u32 match of libnetwork's drivers/overlay/encryption.go
_ISOLATION = "filter forward: iif docker_gwbridge, oif docker_gwbridge: drop"


def meaning(records: Mapping[Key, Fields]) -> dict[Key, Fields]:
    """The records with those of kinds `iptables` and `nft` turned into `rule of filter`. Empty chains that accept everything mean nothing, and go."""
    found: dict[Key, Fields] = {}
    hooks = dict(_hooks(records))
    for (kind, what), fields in records.items():
        try:
            found |= _iptables(what, fields) if kind == "iptables" else _nft(what, hooks) if kind == "nft" else {(kind, what): fields}
        except (ValueError, IndexError):  # a rule that was cut off
            found[kind, what] = fields
    return found


def _record(where: str, conditions: Sequence[str], verdict: str) -> dict[Key, Fields]:
    text = f"{where}: {', '.join(sorted(set(', '.join(conditions).split(', ')))) or 'all'}: {verdict}"
    return {("filter rule", text): {}}


def _iptables(what: str, fields: Fields) -> dict[Key, Fields]:
    table, _, rest = what.partition(" ")
    if "policy" in fields:
        return {} if fields["policy"] == "ACCEPT" else {("filter policy", f"{table} {rest.lower()}"): {"policy": fields["policy"].lower()}}
    words = iter(shlex.split(re.sub(r" #\d+$", "", rest)))
    conditions: list[str] = []
    verdict, extra, negated, chain = "", "", "", ""
    for word in words:
        if word == "!":
            negated = "!= "
        elif word == "-A":
            chain = next(words, "")
        elif word == "-m":
            if next(words, "") == "policy":
                conditions.append("ipsec")
        elif word == "-j":
            target = next(words, "")
            verdict = (
                target.lower()
                if target.upper() == target and target.lower() in _VERDICTS | {"mark", "dnat", "snat", "redirect"}
                else f"jump {target}"
            )
        elif word in _VERDICT_OPTIONS:
            extra = f" {_VERDICT_OPTIONS[word]} {next(words, '').removesuffix('/0xffffffff')}"
        elif word == "--u32" and (vni := _VNI.fullmatch(value := next(words, ""))):
            conditions.append(f"vni {int(vni[1], 16):#x}")
        elif word == "--u32":
            conditions.append(f"u32 {value}")
        elif word == "--ipvs":
            conditions.append("ipvs")
        elif word == "--dir":
            next(words, "")
        elif word == "--pol":
            conditions[conditions.index("ipsec")] = f"ipsec {'missing' if next(words, '') == 'none' else 'exists'}"
        else:
            conditions.append(f"{_CONDITIONS.get(word, word)} {negated}{_value(next(words, ''))}")
            negated = ""
    return _record(_place(table, chain), conditions, verdict + extra)


def _place(table: str, chain: str) -> str:
    if table == "mangle" and chain != "OUTPUT":
        return f"mangle {chain.lower()}"
    return f"{_TYPES.get(table, table)} {chain.lower() if chain.isupper() and not chain.startswith('DOCKER') else chain}"


def _hooks(records: Mapping[Key, Fields]) -> Iterator[tuple[str, str]]:
    """`ip nat postrouting` -> `nat postrouting`: which hook a chain of nft's is."""
    for kind, what in records:
        chain, _, statement = what.partition(": ")
        if kind == "nft" and (match := _CHAIN.fullmatch(statement)):
            family = "" if chain.split(" ", 1)[0] in ("ip", "inet") else f"{chain.split(' ', 1)[0]} "
            yield chain, f"{family}{match['type']} {match['hook']}"


def _nft(what: str, hooks: Mapping[str, str]) -> dict[Key, Fields]:
    chain, _, statement = re.sub(r" #\d+$", "", what).partition(": ")
    where = hooks.get(chain, chain)
    if _CHAIN.fullmatch(statement) or statement == "policy accept":
        return {}
    if statement.startswith("policy "):
        return {("filter policy", where): {"policy": statement.removeprefix("policy ")}}
    words = [word.strip('"') for word in statement.split()]
    conditions: list[str] = []
    verdict = ""
    while words:
        begin = next((begin for begin in _NFT_WORDS if tuple(words[: len(begin)]) == begin), None)
        if begin is not None:
            words = words[len(begin) :]
            negated = "!= " if words[:1] == ["!="] else ""
            value, words = words[bool(negated)], words[bool(negated) + 1 :]
            conditions.append(f"{_NFT_WORDS[begin]} {negated}{_value(value)}")
        elif words[:3] == ["meta", "mark", "set"]:
            verdict, words = f"mark set {int(words[3], 16):#x}", words[4:]
        elif words[0] in _VERDICTS:
            verdict, words = words[0], words[1:]
        elif words[0] in ("jump", "goto", "dnat", "snat", "redirect"):
            verdict, words = " ".join(words), []
        else:
            conditions.append(words.pop(0))
    record = _record(where, conditions, verdict)
    # The lab says to the bridge what Docker says to iptables, by way of br_netfilter (lab/gateway.py).
    isolates = where == "bridge filter forward" and set(conditions) >= {"iif veth*", "oif veth*"} and verdict == "drop"
    return {("filter rule", _ISOLATION): {}} if isolates else record


def _value(text: str) -> str:
    """Equal values in equal words: states sorted, a single address without /32, a number in its shortest form."""
    if re.fullmatch(r"0x[0-9a-f]+", text):
        return f"{int(text, 16):#x}"
    return "+".join(sorted(text.lower().split(","))) if "," in text else text.lower() if text.isupper() else text.removesuffix("/32")
