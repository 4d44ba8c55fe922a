#!/bin/bash
# The first process of the machine: mounts, loads what the tests need, runs them, ends.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONPATH=/opt/site
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /dev/net /out
mount -t devpts devpts /dev/pts
for place in /run /tmp /dev/shm; do mount -t tmpfs tmpfs $place; done
mkdir -p /run/netns
mount -t cgroup2 none /sys/fs/cgroup
mount -t ext4 /dev/vdb /out
for module in br_netfilter veth bridge vxlan tun dummy sch_netem sch_tbf sch_htb nf_tables nft_ct nft_nat nft_masq nft_numgen nf_nat ip_vs ip_vs_rr esp4 xfrm_user authenc \
    echainiv gcm seqiv aesni_intel nf_conntrack_netlink af_packet xt_u32 xt_policy; do
    modprobe $module 2>/dev/null || echo "no module $module" >>/out/modules
done
ip link set lo up
hostname vm
cd /work
eval "set -- $(cat arguments)"
uname -a >/out/pytest.log
python3 -m pytest -q -m vm -p no:cacheprovider -p no:randomly "$@" >>/out/pytest.log 2>&1
echo $? >/out/code
sync
umount /out
echo o >/proc/sysrq-trigger
sleep 5
