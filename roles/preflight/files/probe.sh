#!/bin/sh
# probe.sh: everything that preflight asks a node, in one round and with a POSIX shell alone, for a
# node may be without a usable Python. It changes nothing. Each answer follows a line `@ name`;
# checks.py says what it means, and the roles read it as preflight_told. The caller sets, in front of this text:
#   ASKED_AT   the controller's clock, seconds since 1970
#   THOROUGH   yes: measure the card and dial SITES too, whether or not fedrnn is installed
#   SITES      host names, dialled at port 443
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
ask() { printf '\n@ %s\n%s\n' "$1" "$(sh -c "$2" 2>/dev/null)"; }

# First, so that the time between the two clocks is the connection's alone.
ask clock "echo $ASKED_AT; date +%s"

root=
if [ "$(id -u)" = 0 ]; then
  said=yes
elif said=$(sudo -n true 2>&1); then
  root='sudo -n'
  said=yes
fi
printf '\n@ root\n%s\n' "$said"
ask user 'id -un'
ask home 'echo "$HOME"; [ -d "$HOME" ] && [ -w "$HOME" ] && echo usable'

ask release '. /etc/os-release; echo "$ID"; echo "$VERSION_ID"'
ask kernel 'uname -m'
ask userland 'dpkg --print-architecture'
ask python 'python3 -I -c "import sys; print(\"%d.%d\" % sys.version_info[:2])"'
ask python_built 'cat /opt/fedrnn/python/.source-sha256'
# It says none, and fails, where there is none.
ask container 'what=$(systemd-detect-virt --container) && echo "$what"'
ask model 'tr -d "\0" < /proc/device-tree/model'
ask features 'grep -m1 -i "^features" /proc/cpuinfo'
ask hostname 'uname -n'
ask cluster_hosts 'sed -n "/^# BEGIN nodes of the cluster/,/^# END nodes/{/^#/!p}" /etc/hosts'
ask timezone 'readlink /etc/localtime'
ask timesync 'systemctl is-active systemd-timesyncd'
ask locale '. /etc/default/locale; echo "$LANG"'
ask locales 'locale -a'
ask cloud_init 'ls -d /etc/cloud/cloud.cfg.d'
ask cmdline 'cat /proc/cmdline'
ask boot_file 'ls /boot/firmware/cmdline.txt || ls /boot/cmdline.txt'
ask machine 'cat /etc/machine-id'
ask addresses 'ip -o -4 addr show scope global | grep -vE ": (docker|br-|veth|virbr|cni|podman|tun|wg)"'
# The one that leads out, or else the first. Nothing is sent.
ask address '
  { ip -4 route get 192.0.2.1 | sed -n "s/.* src \([0-9.]*\).*/\1/p"; hostname -I | tr " " "\n"; } | head -n 1'
ask routes 'ip route show default; ip -6 route show default'

ask memory 'grep MemTotal /proc/meminfo
  cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes'
ask controllers 'cat /sys/fs/cgroup/cgroup.controllers || ls /sys/fs/cgroup'
ask swaps 'tail -n +2 /proc/swaps'
# Who makes swap at boot. rpi-swap uses the generator of zram itself.
ask swap_makers '
  if [ -e /etc/rpi/swap.conf ]; then
    cat /etc/rpi/swap.conf /etc/rpi/swap.conf.d/*.conf | grep "^Mechanism=" | tail -n 1 | grep -q =none || { echo rpi-swap; rpi=yes; }
  fi
  if [ -z "$rpi" ] && [ -e /usr/lib/systemd/system-generators/zram-generator ]; then
    cat /etc/systemd/zram-generator.conf /etc/systemd/zram-generator.conf.d/*.conf | grep -q "^ *\[zram" &&
      echo systemd-zram-generator
  fi
  systemctl -q is-enabled dphys-swapfile && echo dphys-swapfile
  systemctl -q is-enabled zramswap && echo zram-tools
  grep -qE "^[^#[:space:]]+[[:space:]]+[^[:space:]]+[[:space:]]+swap[[:space:]]" /etc/fstab && echo /etc/fstab'
# Which of them is the system's own.
ask swap_own 'if [ -e /etc/rpi/swap.conf ]; then echo rpi-swap; elif [ -e /etc/dphys-swapfile ]; then echo dphys-swapfile; fi'

ask disk 'df -Pk /opt | tail -n 1'
ask mounts 'grep -E " (/|/boot|/boot/firmware|/opt|/var) " /proc/mounts'
ask accounts 'getent passwd fedrnn fedrnn-owner | cut -d: -f1'
# Which node this is, as role identity has noted it.
ask identity 'head -c 64 /opt/fedrnn/.identity'
# What role reset has noted before anything was changed.
ask before "$root ls /opt/fedrnn/.before.json"
# What has our names and is not ours: it was there before that note, or has another home than ours.
ask foreign "
  $root test -e /opt/fedrnn/.before.json && noted=yes
  names='fedrnn fedrnn-owner fedrnn-wire fedrnn-job'
  getent passwd \$names | while IFS=: read -r name _ _ _ _ home _; do
    [ \"\$noted \$home\" = 'yes /var/lib/fedrnn' ] || echo \"account \$name\"
  done
  [ \"\$noted\" ] || getent group \$names | sed 's/:.*//; s/^/group /'"
# Who may talk to the gate, with which key: the role writes no other lines.
ask researchers "$root cat /etc/fedrnn/researchers.keys"
# Our settings of sshd: those that a new connection has proved (role os), and others.
ask sshd '
  for file in $(ls -d /etc/ssh/sshd_config.d/*fedrnn*); do
    [ "$(stat -c "%F %a %u %g" "$file")" = "regular file 644 0 0" ] &&
      sha256sum "$file" | grep -xFf /opt/fedrnn/.sshd-in-force || echo "unproved  $file"
  done'
# A unit of the owner's own, a mask of it, or a line of fstab, which a unit of ours would overrule.
ask tmp_of_owner '
  unit=/etc/systemd/system/tmp.mount
  if [ -e $unit ] || [ -L $unit ]; then
    grep -q "^# By Ansible: /tmp in memory" $unit || echo $unit
  else
    grep -qE "^[^#[:space:]]+[[:space:]]+/tmp[[:space:]]" /etc/fstab && echo $unit
  fi'
ask os_in_force 'cat /opt/fedrnn/.os-in-force'
ask torch_proved 'cat /opt/fedrnn/venv/.torch-proved'
ask share "$root cat /var/lib/fedrnn/share/.sha256"
ask installed 'test -e /opt/fedrnn/venv/.lock-sha256 && echo yes'
if [ "$THOROUGH" = yes ] || [ ! -e /opt/fedrnn/venv/.lock-sha256 ]; then
  # What a card does slowly: 8 MiB, written through, in milliseconds.
  ask write '
    file=$(mktemp /var/tmp/preflight.XXXXXX) || exit
    begin=$(date +%s%N)
    dd if=/dev/zero of="$file" bs=1M count=8 conv=fsync && echo $((($(date +%s%N) - begin) / 1000000))
    rm -f "$file"'
  ask names '
    sed -nE "s,^(deb|URIs:).*https?://([A-Za-z0-9.-]+).*,\2,p" /etc/apt/sources.list \
      /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources | sort -u | while read -r host; do
      timeout 10 getent hosts "$host" > /dev/null && echo "yes $host" || echo "no $host"
    done'
  export SITES
  ask sites '
    for site in $SITES; do
      { timeout 5 bash -c "exec 3<>/dev/tcp/$site/443" && echo "yes $site" || echo "no $site"; } &
    done; wait'
fi

# A container sees its host's log and sensors.
if ! systemd-detect-virt -q --container 2> /dev/null; then
  ask kernel_log "$root dmesg | grep -iE 'I/O error|mmc[0-9].*error|EXT4-fs error|read-only|firmware' | tail -n 40"
  ask temperature 'cat /sys/class/thermal/thermal_zone*/temp'
fi
ask throttled "$root vcgencmd get_throttled || cat /sys/devices/platform/soc/soc:firmware/get_throttled"
ask wifi 'ls -d /sys/class/net/*/wireless'
ask rfkill 'for switch in /sys/class/rfkill/*; do cat "$switch/type" "$switch/soft" | xargs; done'

ask packages "dpkg-query -Wf '\${db:Status-Status} \${Package}\n' | sed -n 's/^installed //p'"
ask stray 'ls -d /home/*/.local/lib/python3*/site-packages/* /root/.local/lib/python3*/site-packages/* \
  /usr/local/lib/python3*/*-packages/* | grep -E "/(syft|torch|torchvision|numpy)$"'
# Locks of fcntl(2) have no name: compare the inodes.
ask apt_locks "
  for lock in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do
    inode=\$(stat -c %i \$lock) && awk -v inode=\"\$inode\" '
      \$2 == \"POSIX\" { split(\$6, where, \":\"); if (where[3] == inode) print \$5 }' /proc/locks |
      while read -r pid; do echo \"\$lock \$pid \$(cat /proc/\$pid/comm)\"; done
  done"
# dpkg --audit wants root. The second letter: half-installed, unpacked, half-configured.
ask unconfigured "dpkg-query -Wf '\${db:Status-Abbrev} \${Package}\n' | sed -n 's/^.[HUF].* //p'"
printf '\n@ end\n'
