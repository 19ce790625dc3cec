#!/bin/bash
# system.sh [check|cores|board|browser|faults]…: names the system packages that the lab, and the
# emulated cores or boards, the tests of pages or those of faults, need and this machine lacks, and
# installs exactly those after one question; with `check`, those of tests without nodes alone. YES=1
# or CI=true answers it.
set -euo pipefail

# have COMMAND|FILE…: whether one of them is there. sbin is looked at too: a user's PATH omits it.
have() {
  local what
  for what in "$@"; do
    if [[ $what == /* ]]; then [ -e "$what" ] && return; else
      PATH=$PATH:/usr/sbin:/sbin command -v "$what" > /dev/null && return; fi
  done
  return 1
}

missing=()
want() { # want PACKAGE PROBE…: PACKAGE is missing unless have PROBE
  local package=$1
  shift
  have "$@" || missing+=("$package")
}

ID='' VERSION_ID=''
[ ! -r /etc/os-release ] || . /etc/os-release
system="$ID $VERSION_ID"
cgroup2=false
[ ! -e /sys/fs/cgroup/cgroup.controllers ] || cgroup2=true

want openssh-client ssh
python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)

lab() {
  want podman podman
  want netavark /usr/lib/podman/netavark /usr/libexec/podman/netavark
  want iptables iptables
  want mmdebstrap mmdebstrap
  want gpg gpg
  want arch-test arch-test
  want iproute2 ip
  want ca-certificates /etc/ssl/certs/ca-certificates.crt
  # netavark of Debian 13 asks nft, that of Debian 12 and Ubuntu 24.04 iptables.
  [ "$system" != "debian 13" ] || want nftables nft
  [ "$ID" != ubuntu ] || want debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
  # crun refuses the hybrid of both cgroup versions.
  if $cgroup2; then want crun crun runc; else want runc runc; fi
  if [ "$(id -u)" != 0 ]; then
    want uidmap newuidmap
    if $cgroup2; then # containers of the user's own
      if [ "$system" = "debian 13" ]; then want passt pasta; else want slirp4netns slirp4netns; fi
      want dbus-user-session /usr/lib/systemd/user/dbus.socket
    fi
  fi
}
if [ "$*" = check ]; then want mtools mcopy; else lab; fi

if [[ " $* " == *" cores "* || " $* " == *" board "* ]]; then
  want qemu-user-static qemu-aarch64-static
fi
if [[ " $* " == *" browser "* ]]; then
  package=chromium
  [ "$ID" != ubuntu ] || package=chromium-browser
  want "$package" chromium chromium-browser google-chrome
fi
if [[ " $* " == *" board "* ]]; then
  want qemu-system-arm qemu-system-aarch64
  want mtools mcopy
  want fdisk sfdisk
  want e2fsprogs mke2fs
fi

if [[ " $* " == *" faults "* ]]; then
  want libfaketime "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1"
fi

[ ${#missing[@]} -gt 0 ] || exit 0
install="apt-get install --no-install-recommends ${missing[*]}"
echo "This machine lacks: ${missing[*]}"

case $system in
  'debian 12' | 'debian 13' | 'ubuntu 24.04') ;;
  *)
    echo "fedrnn installs them on Debian 12, Debian 13 and Ubuntu 24.04 only. This is" \
      "${system:-an unknown system}: install what they are called here, then run make again." >&2
    exit 1
    ;;
esac

if [ "$(id -u)" = 0 ]; then
  root=()
elif command -v sudo > /dev/null; then
  root=(sudo)
else
  echo "There is no sudo here. As root, run: $install" >&2
  exit 1
fi

if [ "${YES:-}" != 1 ] && [ "${CI:-}" != true ]; then
  if [ ! -t 0 ]; then
    echo "Nobody is there to ask. Run \`${root[*]:+sudo }$install\`, or make with YES=1." >&2
    exit 1
  fi
  read -r -p "Install exactly these with apt-get? [y/N] " answer
  [[ $answer == [yY]* ]] || { echo "Nothing was installed. By hand: $install" >&2; exit 1; }
fi

apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
"${apt[@]}" -q update
"${apt[@]}" -q install --yes --no-install-recommends "${missing[@]}"
