"""Reading what ip(8) and its like print, and setting two nodes side by side: pure, on the state of real Docker nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vxtool.lab.compare import compare
from vxtool.lab.records import Sandbox, read
from vxtool.lab.rules import meaning

REFERENCES = Path(__file__).parents[1] / "netns" / "refdump"


def text(name: str) -> str:
    return (REFERENCES / f"{name}.txt").read_text()


VM1, VM2 = text("engine-20.10-vm1"), text("engine-20.10-vm2")


def sandbox(told: str) -> Sandbox:
    (found,) = read(f"=== vm1 it\n{told}\n")
    return found


# -- text -> records -------------------------------------------------------------------------------------------------------

LINES = {
    "a link's flags are sorted, and a queue of length 0, which ip does not tell, is told": (
        "2: br0: <UP,BROADCAST> mtu 1450 qdisc noqueue state UP mode DEFAULT group default \n",
        ("link", "br0"),
        {"flags": "BROADCAST,UP", "mtu": "1450", "qlen": "0"},
    ),
    "a VXLAN device": (
        "3: vxlan0@if3: <UP> mtu 1450 master br0\n    vxlan id 4097 srcport 0 0 dstport 4789 proxy l2miss l3miss ttl auto ageing 300 udpcsum",
        ("link", "vxlan0"),
        {"kind": "vxlan", "vxlan.id": "4097", "vxlan.srcport": "0 0", "vxlan.dstport": "4789", "vxlan.proxy": "on", "vxlan.l3miss": "on"},
    ),
    "a bridge's port may learn or not": (
        "3: veth0@if2: <UP> mtu 1450\n    veth \n    bridge_slave state forwarding learning off flood on isolated off addrgenmode eui64",
        ("link", "veth0"),
        {"kind": "veth", "bridge_slave.learning": "off", "bridge_slave.flood": "on", "bridge_slave.isolated": "off", "addrgenmode": "eui64"},
    ),
    "an address": (
        "2: br0: <UP> mtu 1450\n    inet 10.0.1.1/24 brd 10.0.1.255 scope global br0\n       valid_lft forever preferred_lft forever",
        ("address", "br0 10.0.1.1/24"),
        {"brd": "10.0.1.255", "scope": "global", "label": "br0"},
    ),
    "a permanent neighbour": (
        "10.0.1.4 dev vxlan0 lladdr 02:42:0a:00:01:04 PERMANENT ",
        ("neighbour", "vxlan0 10.0.1.4"),
        {"lladdr": "02:42:0a:00:01:04"},
    ),
    "a forwarding entry, whatever the number of the namespace behind it": (
        "02:42:0a:00:01:04 dev vxlan0 dst 192.168.68.110 link-netnsid 0 self permanent",
        ("fdb", "vxlan0 02:42:0a:00:01:04 self"),
        {"dst": "192.168.68.110", "self": "on", "permanent": "on"},
    ),
    "a route": ("default via 172.18.0.1 dev eth1 ", ("route", "default"), {"via": "172.18.0.1", "dev": "eth1"}),
    "a rule of policy routing": ("32766:\tfrom all lookup main ", ("rule", "32766 from all lookup main"), {}),
    "a service of IPVS": (
        "FWM  257 rr\n  -> 10.0.1.3:0   Masq    1      0          0  ",
        ("ipvs real", "FWM 257 > 10.0.1.3:0"),
        {"forward": "Masq", "weight": "1"},
    ),
    "a socket of the kernel's": (
        "udp   UNCONN 0      0             0.0.0.0:4789      0.0.0.0:*    ",
        ("socket", "udp 0.0.0.0:4789"),
        {"state": "UNCONN", "process": "the kernel"},
    ),
    "a socket of a program's": (
        'tcp   LISTEN 0      9                  *:80               *:*    users:(("httpd",pid=3004,fd=3))  ',
        ("socket", "tcp *:80"),
        {"state": "LISTEN", "process": "httpd", "backlog": "9"},
    ),
    "an association without its key": (
        "src 192.168.68.110 dst 192.168.68.109\n\tproto esp spi 0xb807f87a reqid 13681891 mode transport\n\taead rfc4106(gcm(aes)) 0x0011 64",
        ("xfrm state", "192.168.68.110 > 192.168.68.109"),
        {"proto": "esp", "spi": "0xb807f87a", "reqid": "13681891", "mode": "transport", "aead": "rfc4106(gcm(aes)) 64"},
    ),
    "a setting": ("net.ipv4.ip_forward = 1", ("sysctl", "net.ipv4.ip_forward"), {"value": "1"}),
}


@pytest.mark.parametrize("case", LINES)
def test_what_a_command_prints_is_read_as(case):
    told, key, fields = LINES[case]
    assert fields.items() <= sandbox(told).records[key].items()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("10.0.1.4 dev eth0 lladdr 02:42:0a:00:01:04 REACHABLE", "neighbours learned from traffic"),
        ("10.0.1.4 dev eth0 FAILED", "neighbours learned from traffic"),
        ("02:42:0a:00:01:03 dev veth0 master br0 ", "forwarding entries learned from traffic"),
    ],
)
def test_what_traffic_has_left_is_no_state(line, what):
    assert sandbox(f"{line}\nnet.ipv4.ip_forward = 1").passed_over == {what: 1}


def test_a_node_of_a_running_swarm_is_read_whole():
    names = {one.name: len(one.records) for one in read(VM1)}
    assert set(names) >= {"1-jnz278zgn1", "1e48e5ffb0d5", "ingress_sbox", "lb_jnz278zgn", "vm1"}
    assert len(names) == 13
    assert min(names.values()) > 20


def test_a_transcript_names_the_namespaces_in_its_commands():
    assert [one.name for one in read(text("driver-19.03"))] == ["", "1-abcdefghij"]


# -- rules -----------------------------------------------------------------------------------------------------------------

SAME_RULES = {
    "masquerade": (
        "*nat\n-A POSTROUTING -s 172.18.0.0/16 ! -o docker_gwbridge -j MASQUERADE\nCOMMIT",
        "table ip docker_gwbridge {\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
        '\t\tip saddr 172.18.0.0/16 oifname != "docker_gwbridge" counter packets 3 bytes 9 masquerade\n\t}\n}',
    ),
    "no traffic between the endpoints of docker_gwbridge": (
        "*filter\n-A FORWARD -i docker_gwbridge -o docker_gwbridge -j DROP\nCOMMIT",
        "table bridge docker_gwbridge {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n"
        '\t\tiifname "veth*" oifname "veth*" ether type ip drop\n\t}\n}',
    ),
    "marking what is to be encrypted": (
        "*mangle\n-A OUTPUT -p udp -m udp --dport 4789 "
        '-m u32 --u32 "0x0>>0x16&0x3c@0xc&0xffffff00=0x100300" -j MARK --set-xmark 0xd0c4e3/0xffffffff\nCOMMIT',
        "table ip encrypted {\n\tchain output {\n\t\ttype route hook output priority mangle; policy accept;\n"
        "\t\tudp dport 4789 @th,96,24 0x1003 meta mark set 0x00d0c4e3\n\t}\n}",
    ),
    "refusing what is not": (
        "*filter\n-A INPUT -p udp -m policy --dir in --pol none -m udp --dport 4789 "
        '-m u32 --u32 "0x0>>0x16&0x3c@0xc&0xffffff00=0x100300" -j DROP\nCOMMIT',
        "table ip encrypted {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n"
        "\t\tudp dport 4789 @th,96,24 0x001003 meta ipsec missing drop\n\t}\n}",
    ),
}


@pytest.mark.parametrize("case", SAME_RULES)
def test_iptables_and_nft_say_the_same(case):
    iptables, nft = (meaning(sandbox(told).records) for told in SAME_RULES[case])
    assert iptables == nft
    assert len(iptables) == 1


def test_a_rule_with_another_word_is_another_rule():
    one, other = (
        meaning(sandbox(f"*nat\n-A POSTROUTING -s 172.18.0.0/16{words} -j MASQUERADE\nCOMMIT").records) for words in ("", " -m unheard --of-it 7")
    )
    assert one != other


# -- two nodes -------------------------------------------------------------------------------------------------------------


def test_a_node_is_the_same_as_itself_in_every_field():
    comparison = compare(read(VM1), read(VM1), exact=True)
    assert (comparison.differences, comparison.sandboxes, comparison.read_as) == ((), 13, {})
    assert comparison.same > 2500


def test_two_nodes_of_one_real_swarm_differ_in_nothing_but_the_manager_s_sockets():
    """The comparison held against the world: all names, numbers and addresses differ, and what the engine means by them is the same."""
    comparison = compare(read(VM1), read(VM2))
    assert comparison.unexplained == ()
    assert {difference.reason for difference in comparison.explained} == {"the engine's own sockets; a lab has no engine"}
    assert comparison.sandboxes == 13
    assert comparison.same > 2500
    assert comparison.read_as["192.168.68.110"] == "192.168.68.109"
    assert comparison.read_as["10.0.1.4"] == "10.0.1.3", "web.2's address there is web.1's here"


def test_exact_addresses_are_not_read_as_others():
    assert compare(read(VM1), read(VM2), exact=True).unexplained


CHANGES: dict[str, tuple[Callable[[str], str], str]] = {
    "MTU": (
        lambda told: told.replace(
            "vxlan0@if11: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450", "vxlan0@if11: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400"
        ),
        "mtu: 1450 here, 1400 there",
    ),
    "port": (
        lambda told: told.replace("vxlan id 4097 srcport 0 0 dstport 4789", "vxlan id 4097 srcport 0 0 dstport 7789"),
        "vxlan.dstport: 4789 here, 7789 there",
    ),
    "proxy": (lambda told: told.replace("4789 proxy l2miss l3miss", "4789 l2miss l3miss", 1), "vxlan.proxy: only here"),
    "MAC": (
        lambda told: told.replace("10.0.1.5 dev vxlan0 lladdr 02:42:0a:00:01:05", "10.0.1.5 dev vxlan0 lladdr 02:42:0a:00:01:99"),
        "lladdr: 02:42:0a:00:01:05 here, 02:42:0a:00:01:99 there",
    ),
    "VTEP": (
        lambda told: told.replace("02:42:0a:00:01:05 dev vxlan0 dst 192.168.68.111", "02:42:0a:00:01:05 dev vxlan0 dst 192.168.68.110"),
        "dst: 192.168.68.111 here, 192.168.68.110 there",
    ),
    "peer": (lambda told: told.replace("10.0.1.5 dev vxlan0 lladdr 02:42:0a:00:01:05 PERMANENT \n", ""), "neighbour vxlan0 10.0.1.5: only here"),
    "route": (
        lambda told: told.replace("default via 172.18.0.1 dev eth2", "default via 172.18.0.9 dev eth2"),
        "route default via: 172.18.0.1 here, 172.18.0.9 there",
    ),
    "rule": (
        lambda told: told.replace("-A POSTROUTING -s 172.18.0.0/16 ! -o docker_gwbridge -j MASQUERADE\n", ""),
        "filter rule nat postrouting: oif != docker_gwbridge, saddr 172.18.0.0/16: masquerade: only here",
    ),
    "weight": (
        lambda told: told.replace("10.0.1.3:0                   Masq    1", "10.0.1.3:0                   Masq    5"),
        "weight: 1 here, 5 there",
    ),
    "sandbox": (lambda told: re_cut(told, "lb_jnz278zgn"), "load balancer 10.0.1.0/24: the sandbox: only here"),
    "a container's MAC": (
        lambda told: told.replace("link/ether 02:42:0a:00:01:03", "link/ether 12:34:56:78:9a:bc"),
        "address: 02:42 and its IPv4 address here, drawn there",
    ),
}


def re_cut(told: str, name: str) -> str:
    """Without this sandbox."""
    before, _, after = told.partition(f"=== vm1 {name}\n")
    return before + "=== " + after.partition("=== ")[2]


@pytest.mark.parametrize("change", CHANGES)
def test_one_change_is_found_and_named(change):
    changed, sentence = CHANGES[change]
    assert changed(VM1) != VM1
    found = [str(difference) for difference in compare(read(VM1), read(changed(VM1)), exact=True, explained=()).differences]
    assert any(sentence in line for line in found), found


def test_what_one_side_does_not_tell_is_no_difference():
    without = "\n".join(line for line in VM1.splitlines() if "from all lookup" not in line)
    comparison = compare(read(VM1), read(without))
    assert comparison.differences == ()
    assert comparison.ignored["kinds of state that one side does not tell"] == 36


def test_networks_that_are_not_asked_for_are_left_out():
    comparison = compare(read(VM1), read(VM2), networks=["4097"])
    assert comparison.unexplained == ()
    assert comparison.sandboxes == 5, "the node, the overlay, its load balancer, two containers"


@pytest.mark.parametrize("told", ["", "\n\n", "Cannot open network namespace\n", "=== vm1 it\n"])
def test_a_text_without_state_has_no_namespaces(told):
    assert read(told) == []


def test_a_text_that_is_cut_off_anywhere_is_read_as_far_as_it_goes():
    for end in range(0, len(VM1), 997):
        compare(read(VM1[:end]), read(VM1))


def test_what_nft_shows_of_iptables_tables_is_not_counted_twice():
    saved = "*nat\n-A POSTROUTING -s 172.18.0.0/16 ! -o docker_gwbridge -j MASQUERADE\nCOMMIT\n"
    shown = "table ip nat {\n\tchain DOCKER_OUTPUT {\n\t\tip daddr 127.0.0.11 counter packets 0 bytes 0 accept\n\t}\n}\n"
    assert sandbox(saved + shown).records == sandbox(saved).records
    assert sandbox(shown).records
