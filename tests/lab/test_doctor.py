"""What the doctor says: of a machine that has everything, that lacks something, and of a user who may not try."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from vxtool.cli.doctor import command
from vxtool.errors import MissingFeature
from vxtool.lab import doctor
from vxtool.lab.doctor import FEATURES, Feature, Finding, Findings, State


def found(**states: State) -> Findings:
    """Everything is there but what is named."""
    return Findings(
        {feature.id: Finding(feature, states.get(feature.id, State.OK), "no reason given" if feature.id in states else "") for feature in FEATURES}
    )


@pytest.fixture
def run(monkeypatch):
    """The command on a machine with these findings: exit code and text."""

    def run(findings: Findings, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(doctor, "examine", lambda: findings)
        result = CliRunner().invoke(command, arguments, standalone_mode=False)
        assert result.exception is None, result.exception
        return result.return_value, result.output

    return run


def test_each_feature_is_told_once_with_its_consequence_and_its_remedy():
    assert len({feature.id for feature in FEATURES}) == len(FEATURES)
    assert {feature.group for feature in FEATURES} <= set(doctor.GROUPS)
    for feature in FEATURES:
        assert feature.without, feature.id
        assert feature.get, feature.id


def test_a_machine_with_everything_can_build_a_lab(run):
    code, text = run(found())
    assert code == 0
    assert text.splitlines()[-1] == "a lab can be built here: yes, with everything"
    assert "missing" not in text


def test_what_a_lab_can_do_without_is_named_in_the_conclusion(run):
    code, text = run(found(esp=State.MISSING, netem=State.MISSING, tool_tshark=State.MISSING))
    assert code == 0
    assert text.splitlines()[-1] == "a lab can be built here: yes; without ESP (encryption), netem"
    assert "without it: encrypted networks cannot be run; decode and verify know them" in text
    assert "to have it: CONFIG_NET_SCH_NETEM" in text


def test_a_machine_that_lacks_what_a_lab_needs_cannot_build_one(run):
    code, text = run(found(vxlan=State.MISSING))
    assert code == 1
    assert text.splitlines()[-1] == "a lab can be built here: no; VXLAN devices (no reason given)"


def test_json_tells_every_feature(run):
    code, text = run(found(ipvs=State.MISSING), "--json")
    document = json.loads(text)
    assert (code, document["schema"], document["lab"]) == (0, "vxtool-doctor@1", True)
    assert [feature["id"] for feature in document["features"]] == [feature.id for feature in FEATURES]
    assert [feature["id"] for feature in document["features"] if feature["state"] == "missing"] == ["ipvs"]


def test_without_root_the_kernel_is_not_tried_and_tools_are(monkeypatch):
    def never(feature: Feature) -> tuple[State, str]:
        raise AssertionError(f"{feature.id} was tried")

    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "_alone", never)
    findings = doctor.examine.__wrapped__()
    assert not findings.lab
    assert {finding.state for finding in findings if finding.feature.root} == {State.UNTRIED}
    assert findings.has("tool_ip")
    assert findings.conclusion == "a lab can be built here: not known, because what it needs could not be tried (needs root: put sudo in front)"


def test_what_is_required_and_not_there_is_refused_with_what_it_is_for_and_how_to_get_it():
    findings = found(netem=State.MISSING)
    findings.require("a rate", "tbf")
    with pytest.raises(MissingFeature, match=r"^jitter needs netem, which is missing here \(no reason given\); to have it: CONFIG_NET_SCH_NETEM$"):
        findings.require("jitter", "tbf", "netem")


def test_an_attempt_that_kills_its_process_is_not_taken_for_an_answer():
    def suicide() -> str:
        doctor.os._exit(9)

    feature = replace(FEATURES[0], group="namespaces", probe=suicide)
    assert doctor._alone(feature) == (State.UNTRIED, "the attempt was killed")
