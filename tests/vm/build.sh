#!/bin/bash
# build.sh DIR PYTHON: a root file system with the Python packages, a kernel and an initramfs for run.sh. What is there already is kept.
set -euo pipefail
dir=${1:?usage: build.sh DIR PYTHON} python=${2:?usage: build.sh DIR PYTHON}
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$(realpath -s "$python")
mkdir -p "$dir"
cd "$dir"
export DEBIAN_FRONTEND=noninteractive
for tool in qemu-system-x86_64 debootstrap mkfs.ext4 cpio busybox xz debugfs; do
    if ! command -v $tool >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends qemu-system-x86 seabios cpio debootstrap e2fsprogs busybox-static xz-utils >/dev/null
        break
    fi
done
if [ ! -e rootfs.done ]; then
    rm -rf rootfs
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | awk '/^URIs:/{print $2; exit} /^deb http/{print $2; exit}' || true)
    packages=python3,iproute2,iputils-ping,nftables,libnftables1,ethtool,tcpdump,kmod,procps,iptables,ipvsadm,bridge-utils,mininet,iperf3
    debootstrap --variant=minbase --include=$packages bookworm rootfs "${mirror:-http://deb.debian.org/debian}" >debootstrap.log 2>&1
    touch rootfs.done
fi
if [ ! -d kernel ]; then
    name=$(apt-cache search '^linux-image-6.*-cloud-amd64$' | awk '{print $1}' | grep -v unsigned | sort -V | tail -1)
    [ -n "$name" ] || { echo "no linux-image-*-cloud-amd64 among this machine's packages" >&2; exit 1; }
    apt-get download "$name" >/dev/null
    mkdir kernel.part
    dpkg -x "$name"_*.deb kernel.part
    rm -f "$name"_*.deb
    mv kernel.part kernel
    rm -rf rootfs/lib/modules
    cp -a kernel/lib/modules rootfs/lib/
    chroot rootfs depmod "$(ls kernel/lib/modules)"
fi
# The guest runs Debian's own Python 3.11; wheels for it are fetched whatever Python the host has.
version=$(chroot rootfs python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = "$version" ] ||
    { echo "the guest has Python $version: run this with that version (make test-vm PYTHON=python$version)" >&2; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --upgrade --target rootfs/opt/site "$root[lab]" pytest hypothesis dnspython dpkt
rm -rf rootfs/opt/site/vxtool rootfs/opt/site/bin
rm -rf initramfs
mkdir -p initramfs/{bin,proc,sys,dev,new}
cp "$(command -v busybox)" initramfs/bin/
ln -sf busybox initramfs/bin/sh
xz -dc kernel/lib/modules/*/kernel/drivers/block/virtio_blk.ko.xz >initramfs/virtio_blk.ko
cat >initramfs/init <<'X'
#!/bin/sh
export PATH=/bin
busybox mount -t proc proc /proc; busybox mount -t sysfs sys /sys; busybox mount -t devtmpfs dev /dev
busybox insmod /virtio_blk.ko; busybox sleep 1
busybox mount -t ext4 /dev/vda /new || busybox sh
busybox umount /proc /sys
exec busybox switch_root /new /init.sh
X
chmod +x initramfs/init
(cd initramfs && find . | cpio -o -H newc 2>/dev/null | gzip -1 >../initramfs.gz)
