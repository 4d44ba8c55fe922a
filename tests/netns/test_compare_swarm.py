"""The comparison with Docker's swarm notices what differs, and only that: two sides that are made up, no engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.netns.compare_swarm import Difference, Fact, Findings, Reader, Told, compare, compare_states, compare_tasks, one, page, settled
from tests.netns.swarm_steps import REASONS, SEQUENCE, Reason

HERE = {"aaaaaaaaaaaaaaaaaaaaaaa01": "<service web>"}
THERE = {"bbbbbbbbbbbbbbbbbbbbbbb02": "<service web>"}

TABLE = """\
ID             NAME      MODE         REPLICAS   IMAGE          PORTS
{id}   web       replicated   {replicas}        httpd:latest   *:8080->80/tcp
"""


def compared(here: Told, there: Told, step: str = "service ls", reasons: Sequence[Reason] = ()) -> Findings:
    findings = Findings(reasons)
    compare(findings, step, (here, Reader(HERE)), (there, Reader(THERE)))
    return findings


def table(id: str, replicas: str) -> Told:
    return Told(0, TABLE.format(id=id[:12], replicas=replicas))


def test_ids_times_and_who_speaks_are_no_difference() -> None:
    mine = Told(2, "", f"vxtool: port '80' is already in use by service 'web' ({next(iter(HERE))}) as an ingress port\n")
    other = "Error response from daemon: rpc error: code = InvalidArgument desc = port '80' is already in use by service 'web' "
    found = compared(mine, Told(1, "", f"{other}({next(iter(THERE))}) as an ingress port\n"))
    assert found.differences == []
    assert found.same.total() == 2
    assert compared(table(next(iter(HERE)), "6/6"), table(next(iter(THERE)), "6/6")).differences == []
    seconds = [Told(0, f"web.1   Running {text}\n") for text in ("3 seconds ago", "About a minute ago")]
    assert compared(*seconds).differences == []


def test_the_id_of_another_thing_is_a_difference() -> None:
    (difference,) = compared(Told(0, json.dumps({"Target": next(iter(HERE))})), Told(0, json.dumps({"Target": "c" * 24 + "3"}))).unexplained
    assert (difference.place, difference.here, difference.there) == ("Target", "<service web>", "<id>")


DIFFERENT: Mapping[str, tuple[Told, Told, str]] = {
    "a cell": (table("x" * 12, "5/6"), table("x" * 12, "6/6"), "5/6"),
    "a line too many": (Told(0, "web\napi\n"), Told(0, "web\n"), "api"),
    "another message": (Told(1, "", "no such service: web"), Told(1, "", "service web not found"), "no such service: web"),
    "success": (Told(0), Told(1), "fine"),
    "a value of a document": (Told(0, '{"A": {"B": 1}}'), Told(0, '{"A": {"B": 2}}'), "1"),
    "the order of keys": (Told(0, '{"A": 1, "B": 2}'), Told(0, '{"B": 2, "A": 1}'), "A B"),
    "null instead of an empty object": (Told(0, '{"A": {}}'), Told(0, '{"A": null}'), ""),
    "a number instead of a text": (Told(0, '[{"A": [1]}]'), Told(0, '[{"A": [1, 2]}]'), "1"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_is_found(case: str) -> None:
    here, there, shown = DIFFERENT[case]
    found = compared(here, there).unexplained
    assert shown in [difference.here for difference in found]
    assert compared(here, here).differences == compared(there, there).differences == []


RUNNING = Fact("web", "web.1", "sathish-vm1", "running", "running", "started", "", (("web", "10.0.1.3/24"),))

OTHER_FACTS: Mapping[str, tuple[Fact, str]] = {
    "another state": (replace(RUNNING, state="starting"), "history of a slot"),
    "another error": (replace(RUNNING, error="task: non-zero exit (3)"), "history of a slot"),
    "another address": (replace(RUNNING, addresses=(("web", "10.0.1.4/24"),)), "addresses in web"),
    "a task that is nowhere": (replace(RUNNING, node=""), "tasks a node"),
}


@pytest.mark.parametrize("case", OTHER_FACTS)
def test_what_became_of_a_task_is_compared(case: str) -> None:
    changed, place = OTHER_FACTS[case]
    findings = Findings(())
    compare_tasks(findings, "settle web", [RUNNING], [changed])
    assert place in [difference.place for difference in findings.unexplained]


def test_which_node_and_which_slot_has_which_address_is_left_to_chance() -> None:
    findings = Findings(())
    second = replace(RUNNING, slot="web.2", node="sathish-vm2", addresses=(("web", "10.0.1.4/24"),))
    swapped = [replace(RUNNING, addresses=second.addresses, node="sathish-vm2"), replace(second, addresses=RUNNING.addresses, node="sathish-vm3")]
    compare_tasks(findings, "settle web", [RUNNING, second], swapped)
    assert findings.differences == []
    crowded = [replace(one_task, node="sathish-vm2") for one_task in swapped]
    compare_tasks(findings, "settle web", [RUNNING, second], crowded)
    assert [difference.place for difference in findings.unexplained] == ["tasks a node"]


def test_what_tasks_say_in_a_state_is_compared_where_both_were_seen_in_it() -> None:
    findings = Findings(())
    unseen = replace(RUNNING, state="preparing", message="preparing")
    compare_states(findings, {"web": {RUNNING, unseen}}, {"web": {replace(RUNNING, message="running")}})
    assert [(difference.place, difference.here, difference.there) for difference in findings.unexplained] == [
        ("when running", "message started", "message running")
    ]


def test_a_reason_explains_its_own_differences_and_no_others() -> None:
    reasons = (Reason("a lab has fewer", place="^line of|^in the line", here="^5/6$"),)
    assert compared(table("x" * 12, "5/6"), table("x" * 12, "6/6"), reasons=reasons).unexplained == []
    assert len(compared(table("x" * 12, "4/6"), table("x" * 12, "6/6"), reasons=reasons).unexplained) == 1


@dataclass
class Made:
    """A side that answers what it is told to."""

    answers: Mapping[str, Told]
    facts: list[list[Fact]] = field(default_factory=lambda: [[RUNNING]])
    asked: list[tuple[str, int]] = field(default_factory=list)

    def run(self, words: Sequence[str], node: int, folder: Path) -> Told:
        self.asked.append((" ".join(words), node))
        return self.answers.get(" ".join(words), Told(0))

    def tasks(self) -> list[Fact]:
        return self.facts.pop(0) if len(self.facts) > 1 else self.facts[0]

    def names(self) -> dict[str, str]:
        return {}

    def fill(self, text: str) -> str:
        return text.replace("{token}", "T")

    def down(self) -> set[str]:
        return set()

    def silence(self, node: int) -> None: ...

    def wake(self, node: int) -> None: ...


def test_a_step_is_given_to_both_at_the_node_that_it_names(tmp_path: Path) -> None:
    here, there = Made({}), Made({"swarm join --token T": Told(1, "", "Timeout")})
    findings = Findings(())
    one(findings, "on 3: swarm join --token {token}", lambda act: (act(here), act(there)), tmp_path, ({}, {}))
    assert here.asked == there.asked == [("swarm join --token T", 3)]
    assert [difference.place for difference in findings.unexplained] == ["exit code", "message"]


def test_a_service_is_looked_at_when_it_has_come_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.netns.compare_swarm.QUIET", 0.3)
    starting = [replace(RUNNING, state=state) for state in ("preparing", "starting")]
    assert settled(Made({}, [[starting[0]], [starting[0]], [starting[1]], [RUNNING]]), "web") == [RUNNING]


def test_the_page_counts_and_shows_every_difference() -> None:
    findings = Findings((Reason("never the same", place="cell"),), section="services")
    findings.compare("service ls", "cell", "a|b", "c")
    findings.compare("service ls", "other", "x", "")
    findings.compare("service ls", "third", 1, 1)
    text = "\n".join(page(findings, ["Docker Engine 0"], ([1.0] * 4, [2.0] * 4)))
    assert "| services |  | 1 | 1 | 1 |" in text
    assert "- `service ls` other: `x` here, nothing there" in text
    assert "| never the same | 1 | `service ls` cell | `a\\|b` | `c` |" in text
    assert str(Difference("a", "b", "", "c")) == "`a` b: nothing here, `c` there"


def test_every_reason_is_a_sentence_and_no_step_stands_twice_for_nothing() -> None:
    assert all(reason.why and not reason.why.endswith(".") for reason in REASONS)
    assert all(any((reason.step, reason.place, reason.here, reason.there)) for reason in REASONS), "a reason that fits everything explains nothing"
    assert len({section for section, _ in SEQUENCE}) == len(SEQUENCE)
