"""What compare_swarm.py walks through, and which differences have a reason: tables to be added to.

Knows Docker's words and what a lab leaves out on purpose; runs nothing. A step is what stands after `docker` and after `vxtool`; `on 3: ` gives it
to the third node, `settle SERVICE` waits until nothing changes and compares what has become of it, but for addresses where it says `anyhow`;
`addresses NETWORK` asks all nodes for their endpoints, `create` is `service create` with options that all have. `{token}` is a worker's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "BY_CHANCE",
    "CREATE",
    "FILES",
    "IN_ANY_ORDER",
    "MOVING",
    "NOT_COMPARED",
    "PLACED_BY_CHANCE",
    "REASONS",
    "SEQUENCE",
    "SORTED",
    "UNCOMPARED",
    "Reason",
]

CREATE = "service create -d --no-resolve-image --stop-signal SIGKILL"
"""What `create` at the beginning of a step stands for. busybox as a container's first process does not hear SIGTERM, and would be waited for."""

SEQUENCE: tuple[tuple[str, str], ...] = (
    (
        "swarm and nodes",
        """
        swarm init
        swarm join --token {token} 192.168.68.109:2377
        swarm join-token worker
        swarm join-token -q manager
        swarm join-token
        swarm join-token boss
        swarm leave
        on 3: swarm leave
        sleep 20
        node ls
        node rm sathish-vm1
        node rm sathish-vm2
        node rm sathish-vm3
        node rm nope
        node ls
        on 3: swarm leave
        on 3: swarm join --token SWMTKN-1-x 192.168.68.109:2377
        on 3: swarm join --token {token} 192.168.68.109:2377
        sleep 2
        on 3: swarm join --token {token} 192.168.68.109:2377
        node ls
        node ls -q
        node ls --filter name=sathish-vm2
        node ls --filter role=manager
        node ls --filter role=boss
        node ls --filter membership=accepted
        node ls --filter nope=1
        node ls --filter name
        node ls --format json
        node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.Self}}'
        node ls --format 'table {{.Hostname}}\\t{{.Availability}}'
        node ls --format '{{.Nope}}'
        node ls --format '{{.Hostname'
        node inspect sathish-vm1
        node inspect sathish-vm2
        node inspect self
        node inspect nope
        node inspect sathish-vm2 nope
        node inspect --format '{{.Spec.Role}} {{.Spec.Availability}} {{.Status.State}} {{.Status.Addr}}' sathish-vm2
        node inspect --format '{{json .Spec}}' sathish-vm2
        node inspect --format '{{.ManagerStatus.Leader}}' self
        node inspect --pretty sathish-vm1
        node inspect --pretty sathish-vm2
        node update --label-add zone=a sathish-vm1
        node update --label-add zone=b --label-add disk=ssd sathish-vm2
        node update --label-add zone=b --label-add fast sathish-vm3
        node inspect --format '{{json .Spec}}' sathish-vm3
        node update --label-rm fast sathish-vm3
        node update --label-rm fast sathish-vm3
        node inspect --format '{{json .Spec}}' sathish-vm3
        node update --availability sleep sathish-vm3
        node update --role boss sathish-vm3
        node update --label-add nope nope
        node update
        node update --availability drain nope
        node ls --filter node.label=zone=b
        node ls --filter node.label=zone
        node demote sathish-vm1
        node demote sathish-vm2
        node demote nope
        node promote sathish-vm1
        node ps sathish-vm2
        node ps nope
        swarm update --task-history-limit 4
        swarm update --task-history-limit x
        swarm update --dispatcher-heartbeat 5
        swarm update --task-history-limit 5
        swarm unlock-key
        swarm nope
        node nope
        """,
    ),
    (
        "networks",
        """
        network create -d overlay web
        network create -d overlay --attachable --label tier=front --label plain app
        network create -d overlay --subnet 10.9.0.0/24 --gateway 10.9.0.254 --ip-range 10.9.0.128/25 --aux-address printer=10.9.0.130 ranged
        network create -d overlay --subnet 10.10.0.0/24 --subnet 10.11.0.0/24 two
        network create -d overlay --internal inner
        network create -d overlay -o com.docker.network.driver.mtu=1400 -o com.docker.network.driver.overlay.vxlanid_list=5000 odd
        network create -d overlay next
        network ls
        network ls -q
        network ls --no-trunc
        network ls --filter driver=overlay
        network ls --filter driver=bridge
        network ls --filter scope=swarm
        network ls --filter name=e
        network ls --filter label=tier
        network ls --filter label=tier=back
        network ls --filter type=custom
        network ls --filter type=builtin
        network ls --filter type=odd
        network ls --filter nope=1
        network ls --filter dangling=true
        network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.IPv6}} {{.Labels}}'
        network ls --format json --filter name=web
        network ls --format '{{.Label "tier"}}' --filter name=app
        network ls --format 'table {{.Name}}\\t{{.Label "tier"}}' --filter name=app
        network inspect web
        network inspect app
        network inspect ranged
        network inspect two
        network inspect inner
        network inspect odd
        network inspect next
        network inspect ingress
        network inspect nope
        network inspect web nope
        network inspect --format '{{(index .IPAM.Config 0).Subnet}}' web
        network inspect --format '{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}' two
        network inspect --format '{{index .Options "com.docker.network.driver.overlay.vxlanid_list"}}' web odd
        network inspect --format '{{.Nope}}' web
        network create -d overlay web
        network create -d overlay bridge
        network create -d overlay ingress
        network create -d overlay --ingress other
        network create -d overlay --subnet 10.9.0.0/16 over
        network create -d overlay --subnet 10.300.0.0/16 wrong
        network create -d overlay --subnet 10.12.0.0/24 --subnet 10.12.0.0/25 wrong
        network create -d overlay --gateway 10.12.0.1 wrong
        network create -d overlay --subnet 10.12.0.0/24 --gateway 10.13.0.1 wrong
        network create -d overlay --subnet 10.12.0.0/24 --gateway nope wrong
        network create -d overlay --subnet 10.12.0.0/24 --ip-range 10.13.0.0/25 wrong
        network create -d overlay --subnet 10.12.0.0/24 --aux-address printer wrong
        network create -d overlay --subnet 10.12.0.0/24 --aux-address printer=10.13.0.9 wrong
        network create -d overlay -o com.docker.network.driver.overlay.vxlanid_list=5000 taken
        network create -d overlay -o com.docker.network.driver.overlay.vxlanid_list=x wrong
        network create -d overlay --label =x wrong
        network create -d overlay 'a b'
        network create -d overlay
        network create -d nope wrong
        network create -d overlay --nope wrong
        network rm nope
        network rm bridge
        network rm nope next
        network rm over taken wrong
        network ls --filter scope=swarm
        network create -d overlay again
        network inspect again
        network rm ranged two inner odd again
        network nope
        """,
    ),
    (
        "services: create, list, inspect",
        """
        create --name web --network web --replicas 6 --publish 8080:80 httpd
        settle web
        service ls
        service ls -q
        service ls --filter name=web
        service ls --filter name=nope
        service ls --filter mode=global
        service ls --filter nope=1
        service ls --format json
        service ls --format '{{.ID}}: {{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}'
        service ps web
        service ps -q web
        service ps --no-trunc --format '{{.Name}} {{.Image}} {{.DesiredState}} {{.Error}} {{.Ports}}' web
        service ps --filter desired-state=shutdown web
        service ps --filter desired-state=odd web
        service ps --filter name=web.2 --format '{{.Name}}' web
        service ps --filter nope=1 web
        service ps nope
        service ps web nope
        service inspect web
        service inspect --pretty web
        service inspect --format '{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}' web
        service inspect --format '{{.Spec.Mode.Replicated.Replicas}} {{.Spec.TaskTemplate.ContainerSpec.Image}}' web
        service inspect --format '{{json .Endpoint.Ports}}' web
        service inspect --format '{{.PreviousSpec}}' web
        service inspect --format '{{.Nope}}' web
        service inspect --pretty --format x web
        service inspect nope
        service inspect web nope
        network inspect web
        on 2: network inspect web
        on 2: network inspect ingress
        addresses web
        addresses ingress
        network inspect -v web
        network rm web
        create --name full --network app --network web --replicas 2 --env A=1 --env B=2 --label tier=front --container-label c=d \
            --hostname h --user root --workdir / --publish published=8081,target=80 --publish \
            published=8082,target=81,mode=host,protocol=udp --constraint node.role==worker --placement-pref spread=node.labels.zone \
            --replicas-max-per-node 1 --reserve-cpu 0.1 --reserve-memory 4m --limit-cpu 0.5 --limit-memory 64m --limit-pids 50 \
            --restart-condition on-failure --restart-delay 3s --restart-max-attempts 2 --restart-window 1m --update-parallelism 2 \
            --update-delay 1s --update-monitor 2s --update-failure-action rollback --update-max-failure-ratio 0.25 --update-order \
            start-first --rollback-parallelism 0 --rollback-delay 1s --rollback-monitor 3s --rollback-failure-action continue \
            --rollback-max-failure-ratio 0.5 --rollback-order start-first --stop-grace-period 20s --health-cmd 'true' --health-interval \
            300ms --health-retries 2 --health-timeout 2s --health-start-period 100ms --dns 10.1.1.1 --dns-search example.com --dns-option \
            ndots:2 --host db:10.1.1.2 httpd
        settle full
        service inspect full
        service inspect --pretty full
        service ls --filter label=tier=front
        service ls
        create --name everywhere --mode global --network name=web,alias=here httpd
        settle everywhere
        service inspect everywhere
        service inspect --pretty everywhere
        service ps everywhere
        create --name rr --endpoint-mode dnsrr --network web httpd
        settle rr
        service inspect rr
        service inspect --pretty rr
        create --name ports --publish 80 --publish 9000-9002:90-92 --publish 9000-9001:90-91/udp httpd
        settle ports
        service inspect ports
        service ls
        create --name job --mode replicated-job --replicas 3 --max-concurrent 2 httpd sleep 0
        settle job
        service ls --filter mode=replicated-job
        service ps job
        service inspect job
        service inspect --pretty job
        create --name gjob --mode global-job httpd sleep 0
        settle gjob
        service ls --filter name=gjob
        service inspect gjob
        service inspect --pretty gjob
        service rm full everywhere rr ports job gjob
        service rm nope
        service rm web nope
        """,
    ),
    (
        "services: what cannot be",
        """
        create --name web --network web --publish 8080:80 httpd
        create --name web httpd
        create --name other --publish 8080:80 httpd
        create --name other --network nope httpd
        create --name bridged --network bridge httpd
        service rm bridged
        create --name 'a b' httpd
        create --name -x httpd
        create --name other --mode odd httpd
        create --name other --mode global --replicas 2 httpd
        create --name other --mode global --replicas-max-per-node 2 httpd
        create --name other --max-concurrent 2 httpd
        create --name other --replicas x httpd
        create --name other --replicas -1 httpd
        create --name other --constraint odd httpd
        create --name odd --constraint node.odd==1 httpd
        settle odd
        service rm odd
        create --name other --constraint node.role=worker httpd
        create --name other --placement-pref odd httpd
        create --name other --placement-pref odd=node.labels.zone httpd
        create --name other --reserve-cpu x httpd
        create --name other --limit-cpu 0.0001 httpd
        create --name other --limit-memory 1k httpd
        create --name other --limit-memory lots httpd
        create --name other --restart-condition odd httpd
        create --name other --restart-delay 5 httpd
        create --name other --restart-delay -5s httpd
        create --name other --update-parallelism -1 httpd
        create --name other --update-order odd httpd
        create --name other --update-failure-action odd httpd
        create --name taken --rollback-failure-action rollback httpd
        service rm taken
        create --name other --update-max-failure-ratio 2 httpd
        create --name other --update-max-failure-ratio x httpd
        create --name other --endpoint-mode odd httpd
        create --name other --endpoint-mode dnsrr --publish 8083:80 httpd
        create --name other --publish 70000:80 httpd
        create --name other --publish x httpd
        create --name other --publish 8083:80/odd httpd
        create --name other --publish 8083-8085:80-81 httpd
        create --name other --publish published=8083,mode=host httpd
        create --name other --publish target=80,mode=odd httpd
        create --name other --publish target=80,odd=1 httpd
        create --name other --publish 8083:80 --publish 8083:81 httpd
        create --name other --env = httpd
        create --name other --stop-grace-period x httpd
        create --name taken --health-interval 0s httpd
        service rm taken
        create --name other --health-retries -1 --health-cmd true httpd
        create --name other --health-cmd true --no-healthcheck httpd
        create --name other --dns odd httpd
        create --name other --host odd httpd
        create --name taken --network app --network app httpd
        service rm taken
        create --name other --secret nope httpd
        create --name other --config nope httpd
        create --name other --nope httpd
        create --name other 'HTTPD'
        create --name other ''
        service create
        service update
        service update -d nope
        service update -d --replicas x web
        service update -d --publish-add 8080:81 web
        service update -d --network-add nope web
        service update -d --network-rm nope web
        service update -d --image '' web
        service update -d --constraint-add odd web
        service update -d --update-order odd web
        service update -d --rollback --replicas 3 web
        service scale -d web
        service scale -d web=x
        service scale -d web=-1
        service scale -d nope=2
        settle web
        service scale -d nope=2 web=2
        settle web
        service rollback -d nope
        service rollback -d web
        settle web
        service rollback -d web
        settle web
        service rm
        service nope
        settle web
        service rm web
        """,
    ),
    (
        "services: tasks that fail or wait",
        """
        create --name nowhere --constraint node.labels.zone==mars httpd
        settle nowhere
        service ps --no-trunc nowhere
        service ls
        service update -d --constraint-rm node.labels.zone==mars --constraint-add node.labels.zone==a nowhere
        settle nowhere
        create --name large --replicas 2 --reserve-memory 900g httpd
        settle large
        service ps --no-trunc large
        create --name crowd --replicas 4 --replicas-max-per-node 1 httpd
        settle crowd
        service ps --no-trunc --format '{{.Error}}' crowd
        service ls --filter name=crowd
        create --name both --replicas 1 --reserve-cpu 900 --constraint node.labels.zone==b httpd
        settle both
        create --name hosted --replicas 4 --publish published=8090,target=80,mode=host httpd
        settle hosted
        service ps hosted
        service ls --filter name=hosted
        create --name fails --restart-max-attempts 2 --restart-delay 300ms httpd sh -c 'exit 3'
        settle fails
        service ps fails
        service ps --no-trunc fails
        create --name once --restart-condition none httpd sh -c 'exit 4'
        settle once
        create --name done --restart-condition on-failure httpd sleep 0
        settle done
        service ps --no-trunc done
        service ls --filter name=done
        create --name unknown --restart-condition none nosuchimage:1
        settle unknown
        service ps --no-trunc unknown
        create --name noprogram --restart-condition none httpd no-such-program
        settle noprogram
        service ps --no-trunc --format '{{.Error}}' noprogram
        create --name ill --restart-condition none --health-cmd 'exit 1' --health-interval 300ms --health-retries 2 httpd
        sleep 2
        settle ill
        service ps --no-trunc ill
        create --name badjob --mode replicated-job --replicas 2 --restart-condition none httpd sh -c 'exit 5'
        settle badjob
        service ls
        service rm nowhere large crowd both hosted fails once done unknown noprogram ill badjob
        service ls
        """,
    ),
    (
        "services: scale, update, roll back",
        """
        network create -d overlay --subnet 10.40.0.0/24 moved
        create --name web --network moved --publish 8080:80 --replicas 2 --update-delay 0s --update-monitor 600ms --rollback-monitor 600ms \
            --restart-delay 300ms httpd
        settle web
        service scale -d web=6
        settle web
        service scale -d web=3
        settle web anyhow
        service ps web
        service update -d --env-add A=1 --env-add B=2 web
        sleep 3
        settle web
        service ps web
        service inspect web
        service inspect --pretty web
        service inspect --format '{{.UpdateStatus.State}} {{.UpdateStatus.Message}}' web
        service update -d --env-rm A --env-add B=3 web
        sleep 3
        settle web
        service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Env}} {{.PreviousSpec.TaskTemplate.ContainerSpec.Env}}' web
        service update -d --force web
        sleep 3
        settle web
        service inspect --format '{{.Spec.TaskTemplate.ForceUpdate}}' web
        service update -d --label-add a=b --publish-add 8088:88 web
        sleep 1
        settle web
        service inspect web
        service update -d --publish-rm 80 --publish-rm 88 --label-rm a web
        settle web
        service inspect web
        service update -d --network-add app web
        sleep 3
        settle web
        service inspect web
        service update -d --network-rm moved web
        sleep 3
        settle web
        service inspect web
        service rollback -d web
        sleep 3
        settle web
        service inspect web
        service inspect --pretty web
        service update -d --args 'sh -c "exit 7"' --restart-condition none --update-delay 2s --update-failure-action pause web
        sleep 3
        settle web
        service inspect web
        service inspect --pretty web
        service ls
        service update -d --rollback web
        sleep 4
        settle web
        service inspect --format '{{json .UpdateStatus}}' web
        service update -d --args 'sh -c "exit 8"' --restart-condition none --update-delay 2s --update-failure-action rollback web
        sleep 5
        settle web
        service inspect --format '{{json .UpdateStatus}}' web
        service inspect --format '{{json .Spec}}' web
        service update -d --args 'sh -c "exit 9"' --update-failure-action continue --update-parallelism 3 --restart-condition none web
        sleep 5
        settle web
        service inspect --format '{{json .UpdateStatus}}' web
        service update -d --args '' --update-delay 0s --update-order start-first --update-parallelism 1 --restart-condition any web
        sleep 5
        settle web
        service update -d --env-add START=first web
        sleep 3
        settle web
        service update -d --image nosuchimage:1 --restart-condition none --update-delay 2s --update-failure-action pause --no-resolve-image web
        sleep 3
        settle web
        service inspect --format '{{json .UpdateStatus}}' web
        service update -d --image httpd --no-resolve-image --update-delay 0s --restart-condition any --limit-memory 32m --reserve-cpu 0.1 \
            --constraint-add node.role==worker \
            --replicas 4 --container-label-add x=y --hostname hh web
        sleep 5
        settle web
        service inspect web
        service update -d --constraint-rm node.role==worker --container-label-rm x --limit-memory 0 --reserve-cpu 0 --hostname '' web
        sleep 5
        settle web
        service inspect web
        service update -q --replicas 5 --no-resolve-image web
        settle web anyhow
        service scale web=4
        settle web anyhow
        service ls
        service rm web
        sleep 1
        network rm moved
        """,
    ),
    (
        "nodes that go and come",
        """
        network create -d overlay --subnet 10.41.0.0/24 nodes
        create --name web --network nodes --replicas 6 --restart-delay 300ms httpd
        settle web
        node update --availability drain sathish-vm3
        settle web
        node ls
        node inspect --pretty sathish-vm3
        node ps --filter desired-state=running sathish-vm3
        node update --availability active sathish-vm3
        settle web
        service scale -d web=9
        settle web
        node update --availability pause sathish-vm2
        node ls
        service scale -d web=12
        settle web
        node update --availability active sathish-vm2
        create --name everywhere --mode global httpd
        settle everywhere
        node update --availability drain sathish-vm2
        settle everywhere
        service ls
        node update --availability active sathish-vm2
        settle everywhere
        service ps everywhere
        service rm web
        node update --label-add gone=1 sathish-vm3
        service update -d --constraint-add node.labels.gone==1 everywhere
        sleep 2
        settle everywhere
        node update --label-rm gone sathish-vm3
        settle everywhere
        service ls
        service rm everywhere
        sleep 1
        network rm nodes
        """,
    ),
    (
        "stacks and containers",
        """
        stack deploy --resolve-image never -c stack.yaml shop
        settle shop_front
        settle shop_back
        stack ls
        stack ls --format json
        stack services shop
        stack services -q shop
        stack services --filter name=shop_front --format '{{.Name}} {{.Replicas}}' shop
        stack ps shop
        stack ps --no-trunc --format '{{.Name}} {{.Image}} {{.DesiredState}}' shop
        service inspect shop_front
        service inspect shop_back
        network inspect shop_default
        network inspect shop_inner
        network ls --filter scope=swarm
        stack deploy --resolve-image never -c smaller.yaml shop
        settle shop_front
        service ls
        stack deploy --resolve-image never --prune -c smaller.yaml shop
        sleep 2
        service ls
        stack deploy --resolve-image never -c wrong.yaml shop
        stack deploy --resolve-image never -c odd.yaml shop
        stack deploy --resolve-image never -c nope.yaml shop
        stack deploy --resolve-image never shop
        stack ps nope
        stack services nope
        stack rm nope
        stack rm shop
        sleep 3
        stack ls
        network ls --filter scope=swarm
        run -d --name one --network app httpd
        network inspect app
        network connect app one
        network connect web one
        network connect nope one
        network connect app nope
        network disconnect app one
        network disconnect app one
        network disconnect nope one
        run -d --name one --network app httpd
        run -d --name two --network nope httpd
        run -d --name four --network web httpd
        run -d --name three --ip 10.0.2.77 --network app httpd
        network inspect app
        network rm app
        rm one
        rm -f one
        rm -f three
        rm -f two four
        rm nope
        sleep 2
        network rm app web
        network ls
        """,
    ),
    (
        "the swarm's beginning and end",
        """
        on 2: swarm leave
        on 3: swarm leave
        swarm leave --force
        node ls
        service ls
        network ls
        network create -d overlay web
        create httpd
        swarm join-token worker
        swarm init --advertise-addr 192.168.68.109 --default-addr-pool 10.77.0.0/16 --default-addr-pool-mask-length 26 --task-history-limit 2
        node ls
        sleep 2
        network inspect ingress
        network create -d overlay web
        network inspect web
        swarm leave --force
        swarm init --advertise-addr 192.168.68.109 --data-path-port 70000
        swarm init --advertise-addr 192.168.68.109 --default-addr-pool nope
        swarm init --advertise-addr 192.168.68.109 --default-addr-pool-mask-length 40
        swarm init --advertise-addr 10.200.0.1
        swarm init --advertise-addr nope
        swarm init --availability odd
        swarm init --advertise-addr 192.168.68.109 --default-addr-pool 10.77.0.0/16 --default-addr-pool 10.77.0.0/17
        """,
    ),
)
"""(section, steps)."""

FILES = {
    "stack.yaml": """\
version: "3.8"
services:
  front:
    image: httpd
    ports: ["8100:80"]
    networks: [default]
    environment: {COLOUR: red, SIZE: "2"}
    stop_signal: SIGKILL
    deploy:
      replicas: 2
      labels: {tier: front}
      restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3}
      update_config: {parallelism: 2, delay: 1s, order: start-first}
      resources:
        limits: {cpus: "0.5", memory: 64M}
        reservations: {memory: 8M}
      placement:
        constraints: [node.role == worker]
        preferences: [{spread: node.labels.zone}]
  back:
    image: httpd
    command: [sleep, "1000"]
    networks: {inner: {aliases: [store]}}
    stop_signal: SIGKILL
    deploy: {mode: global, endpoint_mode: dnsrr}
networks:
  default:
    driver_opts: {com.docker.network.driver.overlay.vxlanid_list: "6001"}
    ipam: {config: [{subnet: 10.51.0.0/24}]}
  inner:
    driver: overlay
    internal: true
    labels: {kind: inner}
    driver_opts: {com.docker.network.driver.overlay.vxlanid_list: "6000"}
    ipam: {config: [{subnet: 10.50.0.0/24}]}
""",
    "smaller.yaml": """\
version: "3.8"
services:
  front:
    image: httpd
    networks: [default]
    stop_signal: SIGKILL
    deploy: {replicas: 1}
networks:
  default:
    driver_opts: {com.docker.network.driver.overlay.vxlanid_list: "6001"}
    ipam: {config: [{subnet: 10.51.0.0/24}]}
""",
    "wrong.yaml": "version: '3.8'\nservices:\n  front:\n    image: httpd\n    nope: 1\n",
    "odd.yaml": "version: '3.8'\nservices:\n  front: {image: httpd, deploy: {replicas: many}}\n",
}
"""Name -> text of the files that steps are given."""

MOVING = ("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting")
"""States that are not for long, unless there is an error."""

SORTED = ("stack deploy", "stack rm")
"""What tells of things in the order of a Go map."""

PLACED_BY_CHANCE = ("service ps", "stack ps")
"""Tables whose nodes are not compared line by line: `settle` counts the tasks of each node."""

BY_CHANCE = ("Containers",)
"""Objects whose keys and order are by chance."""

IN_ANY_ORDER = ("Peers", "Tasks", "Networks", "VirtualIPs")
"""Lists whose order is by chance, or that of ids."""

UNCOMPARED = re.compile(
    r"Version\.Index$|Peers\[\d+\]\.Name$|Containers\.\d+\.(Name|MacAddress|IPv4Address)$|Tasks\[\d+\]\.(Name|EndpointIP|Info\.Host IP)$"
)
"""Fields of documents: of this run, or by chance; `settle` and `addresses` compare what there is of them."""

NOT_COMPARED = (
    "ids, times, tokens and digests: an id of a node, network, service or task is read as whose it is, so that references are compared",
    "which task is on which node and has which address, which Docker leaves to chance: how many tasks each node has is compared, and which addresses"
    " there are",
    "numbers of versions (`Version.Index`), and names of gossip's members (`Peers.Name`), which an engine draws when it starts",
    "what says who speaks before a message (`Error response from daemon: `, `rpc error: code = ... desc = `, `vxtool: `), and hints at --help",
    "exit codes beyond success and failure: `docker` has 1 and 125, `vxtool` 2 when nothing could be done, as all its verbs",
    "progress on a terminal",
)


@dataclass(frozen=True, slots=True)
class Reason:
    """Patterns, found anywhere in the step, the place in its answer, and what either side has said; `why` is a sentence.

    `THERE` in the pattern for what is said here is what is said there.
    """

    why: str
    step: str = ""
    place: str = ""
    here: str = ""
    there: str = ""

    def fits(self, step: str, place: str, here: str, there: str) -> bool:
        said_here = self.here.replace("THERE", re.escape(there))
        pairs = ((self.step, step), (self.place, place), (said_here, here), (self.there, there))
        return all(re.search(pattern, text) for pattern, text in pairs)


REASONS: tuple[Reason, ...] = (
    # The form of commands
    Reason(
        "the form of a command is judged in the words that all verbs of vxtool have",
        place="message",
        there=r"requires (at least |exactly )?\d+ argument|^unknown (shorthand )?flag|^unknown command|is not a .* command",
    ),
    Reason("what there is to choose from is said as well", place="message", here=r"(?i)^THERE \(there are .*\)$"),
    Reason("what is wrong is said with what to do", step="service scale -d web$|on 3: swarm leave"),
    Reason("docker/cli 29 reads addresses before it looks for their subnets, the one compared with does not", here="failed to parse IP"),
    Reason("a token that admits nobody gets one answer in a lab; an engine tells one apart that cannot be a token", there="^invalid join token"),
    Reason("health checks of services are judged in the words of those of containers", there="in HealthConfig "),
    Reason("words of newer engines", step="network create .* 10.300|--data-path-port"),
    # What a lab has not
    Reason("a lab's nodes run vxtool", here=r"^\d+\.\d+\.\d+$", there=r"^\d+\.\d+\.\d+\+"),
    Reason("a lab has the drivers that its networks and logs need", place=r"Plugins|in the line of (Log|Network|Volume):"),
    Reason("nodes of a lab know one another by a token: there are no certificates", step="^node (inspect|ls)", place="TLS"),
    Reason("nodes of a lab know one another by a token: there are no certificates", there="<certificate>|^TLS Info|^Issuer |^TrustRoot"),
    Reason("a lab has no unlock keys, secrets and configs, and says what to do instead", here="^a lab('s manager)? has no "),
    Reason("tasks of a lab join networks of the swarm", step="--network bridge|service rm bridged", place="exit code|message|line"),
    Reason("a lab has no runc, whose words stand before the error", there="OCI runtime create failed"),
    # What Docker does and a lab does otherwise, on purpose
    Reason(
        "a lab's manager refuses a network that cannot be; an engine's takes it, and lets it and its tasks wait for ever",
        step="network create .*(over|taken|vxlanid_list=x wrong)$|network rm over taken|network create -d nope wrong",
    ),
    Reason(
        "what an engine could not allocate has used up a subnet, and a lab has refused it before",
        step="network inspect again",
        place="Subnet|Gateway",
    ),
    Reason(
        "an engine forgets --aux-address of a swarm's network; a lab keeps the address free, and says so",
        place="AuxiliaryAddresses|IPAM.Config.0. keys",
    ),
    Reason(
        "of networks that have nothing on the node, an engine finds names by their beginning only; a lab finds every name as the others",
        step="network ls --filter name=e",
    ),
    Reason("an engine does not see who uses a swarm's network when it is asked for dangling ones", step="filter dangling"),
    Reason("engines before 28 do not tell whether a network has IPv4", place="IPv4"),
    Reason(
        "firewall marks count up as a node hears of services, in each network anew with an engine, once a service in a lab",
        place="LocalLBIndex",
    ),
    Reason("which of a service's tasks waits is by chance", step="service ps hosted", place="line|column"),
    Reason("an engine tells a port in host mode once for IPv4 and once for IPv6", there=r"^(\S+->\S+),\1$"),
    Reason(
        "an engine starts failed tasks of a job again, without a pause and in spite of --restart-condition none; a lab does as it is told",
        step="badjob|^service ls$",
        place="history|line of <service badjob>",
    ),
    Reason(
        "which of equal tasks go when there are fewer is by chance, and so is which slots stay",
        step="^service ps web$",
        here=r"^(\\_ )?web\.\d$",
        there=r"^(\\_ )?web\.\d$",
    ),
    Reason("added variables stand in the order of a Go map, which is by chance", place="Env|column", there="B=2.*A=1|A=1|B=2"),
    Reason("ports of a range stand in the order of a Go map, which is by chance", step="service inspect ports", place=r"Ports\[[123]\]"),
    Reason("several subnets stand in the order of a Go map, which is by chance", step="network inspect .*two$", place=r"Config\[[01]\]|column"),
    Reason(
        "a node whose last task of a network is just ending still has its balancer there, and takes no new address for it: an engine's end later",
        step="^settle web$",
        place="addresses in web$",
    ),
    Reason(
        "what went before took other addresses: how many tasks and balancers those were is by chance",
        step="^settle web$",
        place="addresses in (app|moved|nodes)$",
    ),
    Reason(
        "what went before took other addresses: how many tasks and balancers those were is by chance",
        step="^service inspect web$",
        place="VirtualIPs",
        here="^10.0.2.",
        there="^10.0.2.",
    ),
    Reason("which slot a failing update begins with is by chance", step="^settle web$", place="history", there=r"exit \(8\)"),
    Reason("which of equal tasks go when there are fewer is by chance, and so is which slots stay", step="^settle web anyhow$", place="history"),
    Reason("stacks' networks are removed in the order of a Go map, which is by chance", step="^stack rm shop$", place="line"),
    Reason("networks stand in the order of their ids, which is by chance", place="column Networks"),
    Reason(
        "an engine fills in defaults when it shows the present specification, and not in the one before; a lab in both",
        place="PreviousSpec.*(ContainerSpec keys|StopGracePeriod)$",
    ),
    Reason("the command line prints fields that are not there as Go prints a null pointer", here="^<no value>$", there="^<nil>$"),
    Reason(
        "an engine counts the slots of a job from 0, and shows a slot 0 as if the service was global; a lab counts from 1",
        step="service ps job",
        there="<node ",
    ),
    Reason("newer command lines begin messages with a small letter", place="message", here="(?i)^THERE$"),
    Reason("a lab says where in a file, or with which command, something is wrong", place="message", here=r"(?i)^(.*\.yaml, line \d+: )THERE$"),
    Reason("a lab says what it has that makes a swarm", here="or .PROGRAM lab up --swarm. for a lab that has one"),
    Reason("before there is a swarm, a lab has no networks; an engine has its own", step="^network ls$", place="exit code|message|line"),
    Reason("a lab makes no container that cannot run; an engine makes it, and cannot start it", step="run -d --name (two|four)|rm -f two four"),
    Reason("a node that has nothing of a network does not know it", step="network disconnect", there="^network app not found$"),
    Reason("a container in a network twice is refused in the words for endpoints", there="is already attached to network"),
    Reason(
        "stack deploy fills in other empty fields than service create; a lab shows one form",
        step="service inspect shop_",
        place=r"ContainerSpec keys|Privileges|\.Init$|Resources keys$",
    ),
    Reason("newer command lines announce what stack deploy will do one day", there="--detach=false"),
    Reason("an engine advertises an address that it has not; a lab's nodes use their own", step="--advertise-addr (10.200.0.1|nope)$"),
    Reason("a lab refuses address pools that overlap; an engine takes them", step="default-addr-pool 10.77.0.0/17"),
    Reason("an engine's libnetwork fails at times when tasks follow one another quickly", there="error while removing network"),
    Reason(
        "which of equal nodes gets a task is by chance, and so is what follows from it",
        step="^settle web$",
        place="tasks a node",
        here=r"^[1-3]( [1-3])+$",
        there=r"^[1-3]( [1-3])+$",
    ),
    Reason("documents of a lab are JSON, and have no type of Go", there="can't evaluate field .* in type swarm"),
    Reason(
        "a task that was never placed and is not wanted any more is marked SHUTDOWN by an engine's scheduler; in a lab it stays where it was",
        place="history",
        here="shutdown/pending",
        there="shutdown/shutdown",
    ),
)
"""Differences that are meant, or that cannot be otherwise: the first that fits is given."""
