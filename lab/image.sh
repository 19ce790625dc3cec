#!/bin/bash
# image.sh SUITE FILE.tar: the root file system of a virtual node, Debian's SUITE (bookworm) as small
# as systemd and sshd allow. lab_up keys its cache by the SHA-256 of this file and the suite, so
# everything that decides what is in the image stands here.
set -euo pipefail
umask 022
suite=$1
out=$2

packages=(
  systemd systemd-sysv dbus libpam-systemd        # a real init and login sessions
  openssh-server sudo                             # what Ansible talks to
  python3 python3-apt                             # what Ansible's modules run on
  iproute2 iputils-ping procps kmod util-linux less ca-certificates
)

# Masked: what makes no sense in a container. systemd-binfmt and its mount would empty the binfmt
# entries of the whole machine when a node stops.
masked=(
  systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount
  systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket
  getty.target console-getty.service systemd-networkd-wait-online.service
  apt-daily.timer apt-daily-upgrade.timer
)

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
mkdir -p "$files"/etc/{apt/apt.conf.d,ssh/sshd_config.d,sudoers.d,systemd/system/ssh.service.d}

# A node reaches no archive. Its apt asks a port that ssh forwards to the controller's proxy
# while Ansible is connected.
cat > "$files/etc/apt/apt.conf.d/90lab-proxy" <<'CONF'
Acquire::http::Proxy "http://127.0.0.1:3142";
Acquire::http::Timeout "120";
CONF

# One kind of host key, made by the node itself at its first boot.
cat > "$files/etc/ssh/sshd_config.d/10-lab.conf" <<'CONF'
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin no
CONF
cat > "$files/etc/systemd/system/ssh.service.d/hostkey.conf" <<'CONF'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -C "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
CONF

echo 'pi ALL=(ALL) NOPASSWD:ALL' > "$files/etc/sudoers.d/010_pi-nopasswd"
chmod 0440 "$files/etc/sudoers.d/010_pi-nopasswd"
tar -C "$files" --owner=0 --group=0 -cf "$files.tar" etc
trap 'rm -rf "$files" "$files.tar"' EXIT

include=$(IFS=,; echo "${packages[*]}")
mmdebstrap --variant=minbase --include="$include" --components=main \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="chroot \"\$1\" systemctl mask ${masked[*]}" \
  --customize-hook='chroot "$1" systemctl enable ssh.service' \
  --customize-hook='chroot "$1" useradd --create-home --shell /bin/bash --groups sudo pi' \
  --customize-hook="tar-in \"$files.tar\" /" \
  --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf' \
  --customize-hook=': > "$1"/etc/machine-id' \
  --customize-hook='printf "127.0.0.1\tlocalhost\n" > "$1"/etc/hosts' \
  "$suite" "$out"
