"""The report as a page, opened in a real browser: it tells what is wrong, opens to the frames, asks nobody for anything, and nothing in it runs."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.verify.build import CAPTURES, Frame, Scene, healthy
from vxtool.cli.html import render
from vxtool.model import Cluster
from vxtool.verification import Verification, verification

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
ABROAD = "</style></svg><link rel=stylesheet href=//192.0.2.1/a.css><iframe src=http://192.0.2.1/></iframe>"

Open = Callable[[str], webdriver.Chrome]


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: webdriver.Chrome, tmp_path: Path) -> Open:
    def show(page: str) -> webdriver.Chrome:
        path = tmp_path / "report.html"
        path.write_text(page, encoding="utf-8")
        browser.get_log("performance")  # type: ignore[no-untyped-call]
        browser.get_log("browser")  # type: ignore[no-untyped-call]
        browser.get(path.as_uri())
        return browser

    return show


def _written(scene: Scene, folder: Path) -> Verification:
    """A scene as capture files, judged: the report reads frames again."""
    sources: list[tuple[str | None, Any]] = []
    for shot in scene.shots:
        path = folder / f"{shot.name}.pcap"
        with path.open("wb") as out:
            out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
            for frame in shot.frames:
                out.write(struct.pack("<IIII", frame.ts // 10**9, frame.ts % 10**9, len(frame.data), frame.wirelen or len(frame.data)) + frame.data)
        sources.append((shot.vantage, path))
    return verification(sources, scene.timeline, settings=scene.settings)


@cache
def _wrong_vni() -> Verification:
    from vxtool.expect import load

    folder = CAPTURES / "faults" / "wrong-vni"
    return verification([(None, path) for path in sorted(folder.glob("h*.pcap"))], load([str(folder / "expect")]))


@cache
def _steady() -> Verification:
    from vxtool.expect import load

    folder = CAPTURES / "swarm-steady"
    return verification([(None, path) for path in sorted(folder.glob("vm*.pcap"))], load([str(folder)]))


def _hostile(folder: Path) -> Verification:
    """Names of nodes and networks that are markup, and a DNS question for such a name in a segment that nobody knows."""

    def renamed(cluster: Cluster) -> Cluster:
        old = next(node.name for node in cluster.nodes if node.name.endswith("vm1"))
        return replace(
            cluster,
            nodes=tuple(replace(node, name=HOSTILE if node.name == old else node.name) for node in cluster.nodes),
            networks=tuple(replace(network, name=ABROAD if network.name == "web" else network.name) for network in cluster.networks),
            endpoints=tuple(replace(endpoint, node=HOSTILE if endpoint.node == old else endpoint.node) for endpoint in cluster.endpoints),
            missing=(*cluster.missing, f"missing {HOSTILE}"),
        )

    scene = healthy("swarm-steady", ["vm1"]).unnamed()
    question = DNS(qd=DNSQR(qname=HOSTILE.encode()))
    inner = Ether(src="02:42:0a:00:01:03", dst="02:42:0a:00:01:04") / IP(src="10.0.1.3", dst="10.0.1.4") / UDP(sport=40000, dport=53) / question
    outer = Ether() / IP(src="192.168.68.109", dst="192.168.68.110") / UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=77, flags=8) / inner
    frame = Frame(scene.shots[0].frames[100].ts, bytes(outer))
    return _written(scene.with_frames("vm1", [frame]).expecting(renamed), folder)


def test_the_headline_says_what_is_wrong_and_where(opened: Open) -> None:
    browser = opened(render(_wrong_vni()))
    assert "VNI 4999" in browser.title
    assert "sathish-vm2 sends" in browser.find_element(By.TAG_NAME, "h1").text
    assert "1 error at sathish-vm2: VX-VNI" in browser.find_element(By.TAG_NAME, "header").text


def test_a_verdict_opens_to_what_was_expected_and_to_its_decoded_frames(opened: Open) -> None:
    browser = opened(render(_wrong_vni()))
    row = browser.find_element(By.CSS_SELECTOR, "tr.error")
    assert not row.find_element(By.TAG_NAME, "dl").is_displayed()
    row.find_element(By.CSS_SELECTOR, "summary").click()
    assert row.find_element(By.TAG_NAME, "dl").is_displayed()
    assert "VNI 4097 for network web" in row.text
    assert "ip -d link show vxlan0" in row.text
    frame = row.find_element(By.CSS_SELECTOR, "details.frame")
    assert not frame.find_element(By.TAG_NAME, "pre").is_displayed()
    frame.find_element(By.TAG_NAME, "summary").click()
    assert frame.find_element(By.TAG_NAME, "pre").is_displayed()
    assert "VXLAN" in frame.find_element(By.TAG_NAME, "pre").text
    assert "4999" in frame.find_element(By.TAG_NAME, "pre").text


def test_verdicts_are_filtered_by_severity_without_a_script(opened: Open) -> None:
    browser = opened(render(_wrong_vni()))

    def visible(kind: str) -> bool:
        return any(row.is_displayed() for row in browser.find_elements(By.CSS_SELECTOR, f"tr.{kind}"))

    assert (visible("error"), visible("unknown"), visible("pass")) == (True, True, False)
    for kind in ("error", "pass"):
        browser.find_element(By.ID, f"show-{kind}").click()
    assert (visible("error"), visible("unknown"), visible("pass")) == (False, True, True)


def test_what_could_not_be_decided_says_what_it_needs(opened: Open) -> None:
    rows = opened(render(_wrong_vni())).find_elements(By.CSS_SELECTOR, "tr.unknown")
    assert rows
    assert all("It would need" in row.text for row in rows)


def test_pictures_show_nodes_and_have_a_size(opened: Open) -> None:
    browser = opened(render(_steady()))
    for section in ("cluster", "mesh", "timeline"):
        picture = browser.find_element(By.CSS_SELECTOR, f"#{section} svg")
        assert "sathish-vm1" in picture.text
        assert picture.size["width"] > 500
        assert picture.size["height"] > 100
    assert browser.find_element(By.TAG_NAME, "h1").text == "Nothing wrong"


def test_the_page_asks_nobody_for_anything(opened: Open, tmp_path: Path) -> None:
    browser = opened(render(_hostile(tmp_path)))
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]  # type: ignore[no-untyped-call]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert asked == {browser.current_url}


def test_markup_in_names_of_nodes_networks_and_hosts_is_shown_and_does_not_run(opened: Open, tmp_path: Path) -> None:
    result = _hostile(tmp_path)
    browser = opened(render(result))
    for summary in browser.find_elements(By.CSS_SELECTOR, "tr.error summary"):
        browser.execute_script("arguments[0].parentElement.open = true", summary)
    assert browser.title != "ran"
    assert not browser.find_elements(By.CSS_SELECTOR, "script, img, iframe, link, object, [onerror], [src]")
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "#captures").text  # the node
    assert "<script>" in "".join(part.text for part in browser.find_elements(By.TAG_NAME, "pre"))  # the question
    assert "<script>" in browser.find_element(By.CSS_SELECTOR, "#cluster svg").text
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]


def test_a_script_would_be_refused_even_if_it_came_in(opened: Open) -> None:
    page = render(_steady()).replace("<main>", "<main><script>document.title='ran'</script>", 1)
    assert opened(page).title != "ran"


def test_the_page_is_well_formed_and_its_ids_are_unique() -> None:
    page = _Page()
    page.feed(render(_wrong_vni()))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


class _Page(HTMLParser):
    """Elements that are still open, and all ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_of_very_many_findings_stays_small() -> None:
    result = _wrong_vni()
    [failing] = result.failing
    many = tuple(replace(failing, subject=f"VNI {number}") for number in range(5_000))
    page = render(replace(result, verdicts=(*many, *result.verdicts)))
    assert len(page.encode()) < 2 * 1024 * 1024
    assert "more verdicts are not on this page" in page


def test_a_capture_that_cannot_be_read_again_still_has_a_report() -> None:
    result = _wrong_vni()
    page = render(replace(result, sources=dict.fromkeys(result.sources, "-")))
    assert "frame 6" in page
