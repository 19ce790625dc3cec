#!/bin/bash
# image.sh SUITE FOLDER: the SD card of a board, as if just written: Debian for arm64 with Debian's
# kernel, which reads its first-boot files from the boot partition as Raspberry Pi OS does. FOLDER
# gets card.img and beside it vmlinuz, initrd and the device tree of a Pi 3B, for qemu.
# image.py runs it where arm64 programs run, and keys its cache by the SHA-256 of this file.
set -euo pipefail
umask 022
suite=$1 out=$2
PATH=$PATH:/usr/sbin:/sbin

packages=(
  linux-image-arm64 initramfs-tools udev kmod e2fsprogs
  systemd systemd-sysv dbus libpam-systemd        # a real init and login sessions
  cloud-init                                      # first boot
  openssh-server sudo                             # what Ansible talks to
  python3 python3-apt                             # what Ansible's modules run on
  iproute2 iputils-ping procps util-linux less ca-certificates tzdata systemd-timesyncd
)
# Where Raspberry Pi OS Bookworm has its swap from.
[ "$suite" != bookworm ] || packages+=(dphys-swapfile)

# Masked: what would use the board for itself meanwhile, and what would hold up the first boot.
masked=(apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service)

# What finds the root file system: of qemu's virtual machine, and of a Pi's card.
modules=(virtio_mmio virtio_blk bcm2835 sdhci-iproc mmc_block ext4)

files=$out/files root=$out/root
mkdir -p "$files"/etc/{initramfs-tools/conf.d,cloud/cloud.cfg.d,apt/apt.conf.d} \
  "$files"/etc/systemd/system/cloud-init-local.service.d "$files"/boot/firmware

printf '%s\n' "${modules[@]}" > "$files/etc/initramfs-tools/modules"
printf 'MODULES=list\nCOMPRESS=gzip\nFSTYPE=ext4\n' > "$files/etc/initramfs-tools/conf.d/board"

cat > "$files/etc/fstab" <<'CONF'
LABEL=rootfs / ext4 defaults,noatime 0 1
LABEL=BOOTFS /boot/firmware vfat defaults 0 2
CONF
cat > "$files/etc/cloud/cloud.cfg.d/99-board.cfg" <<'CONF'
datasource_list: [NoCloud, None]
datasource: {NoCloud: {seedfrom: "file:///boot/firmware/"}}
system_info: {network: {renderers: [networkd]}}
CONF
cat > "$files/etc/systemd/system/cloud-init-local.service.d/boot.conf" <<'CONF'
[Unit]
RequiresMountsFor=/boot/firmware
CONF
tar -C "$files" --owner=0 --group=0 -cf "$files/tree.tar" etc boot

include=$(IFS=,; echo "${packages[*]}")
# INITRD=No: once at the end, not after each package that asks for it.
INITRD=No mmdebstrap --mode=root --skip=check/qemu,output/dev,output/mknod \
  --architectures=arm64 --variant=minbase --include="$include" --components=main \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --essential-hook="tar-in \"$files/tree.tar\" /" \
  --customize-hook='chroot "$1" update-initramfs -c -k all' \
  --customize-hook='chroot "$1" systemctl enable ssh.service systemd-networkd.service' \
  --customize-hook="chroot \"\$1\" systemctl mask ${masked[*]}" \
  --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname' \
  --customize-hook='echo nameserver 10.0.2.3 > "$1"/etc/resolv.conf' \
  --customize-hook='echo uninitialized > "$1"/etc/machine-id' \
  --customize-hook='touch "$1"/etc/.updated "$1"/var/.updated' \
  "$suite" "$root"
# Never into another file system: this machine's /dev was mounted here.
rm -rf --one-file-system "$root/dev"
mkdir "$root/dev"

cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
cp "$root"/usr/lib/linux-image-*/broadcom/bcm2837-rpi-3-b.dtb "$out/"

# 8 GiB, of which a file system without contents needs none: an SD card is a power of two.
card=$out/card.img boot_mib=64 card_mib=8192
truncate -s ${card_mib}M "$card"
sfdisk --quiet "$card" <<LAYOUT
label: dos
start=1MiB, size=${boot_mib}MiB, type=e
start=$((boot_mib + 1))MiB, type=83
LAYOUT
mformat -i "$card@@1M" -T $((boot_mib * 2048)) -h 255 -s 63 -v BOOTFS ::
mke2fs -q -t ext4 -L rootfs -d "$root" -E offset=$(((boot_mib + 1) << 20)),lazy_itable_init=1 \
  "$card" $((card_mib - boot_mib - 1))M
rm -rf --one-file-system "$files" "$root"
