# What `make demo` shows: captures of a real Docker Swarm, read by vxtool, and as root a lab built, broken and judged. Run from the root of the repository, with vxtool on the PATH.
set -eu
vm1=captures/swarm-steady/vm1.pcap
container=captures/swarm-steady/container.pcap

bold='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m'); fi

say() { printf '\n%s%s%s\n' "$bold" "$(printf '%s' "$*" | fold -s -w 100)" "$plain"; }
show() {
    printf '%s$ vxtool' "$dim"
    for word in "$@"; do case $word in *" "*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac; done
    printf '%s\n' "$plain"
    vxtool "$@"
}

say "A healthy Docker Swarm of three nodes, captured on the underlay of vm1 (captures/swarm-steady/ORIGIN.md). One HTTP request through the routing mesh:" \
    "192.168.68.50 asks vm1, and vm1 hands the connection to a backend on another node. After the VTEPs stands the VNI; 4096 is the ingress network."
show decode --from 2026-11-21T23:57:20 --where "inner_dport == 80 or inner_sport == 80" --limit 8 $vm1

say "The second of these frames with every header, and the byte where each begins:"
show decode -v --vni 4096 --limit 1 $vm1

say "The whole capture in numbers: two networks in clear (4096 is ingress, 4097 is web), VTEP pairs both ways, who talks to whom, and ESP where network sec is encrypted:"
show decode --summary --checksums $vm1

say "Inside a container there is no VXLAN. Names are asked of 127.0.0.11, on a port that Docker chose. Service web has one virtual address, api (dnsrr)" \
    "one address for each task, in another order each time:"
show decode --where "dns_qname in ['web', 'api'] and dns_qtype == 'A'" --limit 8 $container

say "The main job: hold all captures of that moment against what Docker said of the swarm (network inspect, service inspect, service ps of each node," \
    "in captures/swarm-steady):"
show verify captures/swarm-steady/vm1.pcap captures/swarm-steady/vm2.pcap captures/swarm-steady/vm3.pcap $container --expect captures/swarm-steady

fault=captures/faults/fdb-wrong-vtep
say "And a real swarm in which one forwarding entry was set to the wrong node ($fault; the exit code of verify is 1, for a failing check):"
show verify $fault/h1.pcap $fault/h2.pcap $fault/h3.pcap $fault/task-web-vm1.pcap --expect $fault/expect || [ $? = 1 ]

if [ "$(id -u)" = 0 ] && vxtool doctor >/dev/null; then
    folder=$(mktemp -d)
    trap 'vxtool lab down demo >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
    trap 'exit 130' INT TERM
    export VXTOOL_LAB=demo
    record() { # record FILE COMMAND...: what crosses the underlay of all three nodes while COMMAND runs
        local file=$1
        shift
        : >"$folder/said"
        vxtool capture sathish-vm1 sathish-vm2 sathish-vm3 -w "$file" 2>>"$folder/said" &
        local capture=$!
        while ! grep -q "capturing at" "$folder/said"; do kill -0 $capture && sleep 0.05; done
        show "$@" || true
        kill -TERM $capture && wait $capture
    }
    say "The same on this machine: a lab of three nodes, built device by device as Docker's overlay driver does it, in namespaces of its own:"
    show lab up --name demo --nodes 3
    say "From one endpoint to another on another node, while all nodes' underlay is captured; then the capture is held against what the lab should be:"
    record "$folder/healthy.pcapng" lab exec web.1 -- ping -n -c 2 10.0.1.4
    vxtool lab expect >"$folder/expect.yaml"
    show decode --vni 4097 --limit 2 "$folder/healthy.pcapng"
    show verify "$folder/healthy.pcapng" --expect "$folder/expect.yaml"
    say "One forwarding entry is set to the wrong node by hand. Ping hears nothing; verify says why:"
    show lab exec web@sathish-vm1 -- bridge fdb replace 02:42:0a:00:01:04 dev vxlan0 dst 192.168.68.111 self permanent
    record "$folder/broken.pcapng" lab exec web.1 -- ping -n -c 2 -W 1 10.0.1.4
    show verify "$folder/broken.pcapng" --expect "$folder/expect.yaml" || [ $? = 1 ]
    show lab down demo
    say "And a whole swarm in such a lab: a manager, an agent on each node, names, virtual addresses and the routing mesh, with Docker's own words:"
    show lab up --name demo --swarm --nodes 3
    show network create --driver overlay web
    show service create --quiet --name web --network web --replicas 6 --publish 80:80 httpd
    show service ps web
    say "From inside a task: its name server is 127.0.0.11, the service has one virtual address, and behind it six tasks:"
    show lab exec web.1 -- sh -c 'cat /etc/resolv.conf; getent hosts web tasks.web; curl -s http://web/'
    say "Every node answers on the published port, and each hands new connections to all six in turn; what crosses the underlay meanwhile is captured and judged:"
    record "$folder/mesh.pcapng" lab exec sathish-vm1 -- sh -c 'for request in 1 2 3 4 5 6 7 8 9 10 11 12; do curl -s http://192.168.68.110/hostname | head -1; done | sort | uniq -c'
    vxtool lab expect >"$folder/swarm.yaml"
    show verify "$folder/mesh.pcapng" --expect "$folder/swarm.yaml"
    say "One node is drained: its tasks run elsewhere, and the rest of them stays where it is:"
    show node update --availability drain sathish-vm3
    for _ in $(seq 100); do [ "$(vxtool service ps web --filter desired-state=running --format '{{.CurrentState}}' | grep -c '^Running')" = 6 ] && break; sleep 0.1; done
    show service ps --filter desired-state=running web
    show node ls
    show lab down demo
else
    say "The rest of the demonstration builds a lab, which needs root and a kernel that can do it: run make demo as root; vxtool doctor tells what is missing."
fi

say "Where to go from here: vxtool --help, vxtool verify --help, README.md, make notebooks. To decode on your own machine: tcpdump -i eth0 -U -w - udp port 4789 | vxtool decode -"
