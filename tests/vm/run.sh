#!/bin/bash
# run.sh DIR OUT [PYTEST ARGUMENTS]: boots what build.sh made, runs the tests marked vm, leaves what they said in OUT.
set -euo pipefail
dir=$(realpath "${1:?usage: run.sh DIR OUT [PYTEST ARGUMENTS]}") out=$(realpath -m "${2:?usage: run.sh DIR OUT [PYTEST ARGUMENTS]}")
shift 2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$dir"
rm -rf rootfs/work
mkdir -p rootfs/work
# The checkout with its compiled parts; the guest compiles nothing.
tar -C "$root" --exclude=__pycache__ -cf - vxtool mininet_topos tests pyproject.toml captures/made | tar -C rootfs/work -xf -
cp "$here/init.sh" rootfs/init.sh
printf '%q ' "$@" >rootfs/work/arguments
work=$(mktemp -d ./run.XXXX)
trap 'rm -rf "$work"' EXIT
truncate -s 4G "$work/root.img"
mkfs.ext4 -q -d rootfs "$work/root.img"
truncate -s 256M "$work/out.img"
mkfs.ext4 -q "$work/out.img"
timeout 5400 qemu-system-x86_64 -accel tcg -icount shift=1,sleep=off -cpu max -m 4000 -smp 1 -nographic -no-reboot \
    -kernel kernel/boot/vmlinuz-* -initrd initramfs.gz -append 'console=ttyS0 panic=-1 root=/dev/vda quiet' \
    -drive file="$work/root.img",if=virtio,format=raw,cache=unsafe -drive file="$work/out.img",if=virtio,format=raw,cache=unsafe \
    </dev/null >"$work/serial.log" 2>&1 || true
rm -rf "$out"
mkdir -p "$out"
debugfs -R "rdump / $out" "$work/out.img" 2>/dev/null
rm -rf "$out/lost+found"
cp "$work/serial.log" "$out/"
cat "$out/pytest.log" 2>/dev/null || { tail -n 20 "$out/serial.log" >&2; echo "the machine did not come as far as the tests" >&2; exit 1; }
exit "$(cat "$out/code")"
