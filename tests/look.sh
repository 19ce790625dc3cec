# What a node is, a line each: packages, accounts, groups, units, swap, the kernel's options, and every
# file with mode, owner and content, but for files of swap. Not what any system changes of itself: logs,
# caches, stamps of timers, the notes of dpkg and ucf, the copies that passwd's tools and dphys-swapfile
# leave, sudo's note that it was used.
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
for swap in $(swapon --noheadings --show=NAME); do set -- "$@" -o -path "$swap"; done
{
  dpkg-query -Wf 'package ${db:Status-Abbrev} ${Package} ${Version}\n'
  getent passwd
  getent group
  systemctl list-unit-files --no-legend --plain | awk '$2 != "transient" { print "unit", $1, $2 }'
  swapon --noheadings --show=NAME,SIZE | sed 's/^/swap /'
  sed 's/^/kernel /' /boot/firmware/cmdline.txt 2> /dev/null
  echo "name $(hostname)"
  find /etc /opt /var /home /usr/local /root -xdev \
    \( -path /var/cache -o -path /var/log -o -path /var/tmp -o -path /var/lib/apt/lists \
    -o -path /var/lib/dpkg -o -path /var/lib/ucf -o -path /var/lib/systemd -o -path /var/lib/cloud \
    -o -path /etc/passwd- -o -path /etc/group- -o -path /etc/shadow- -o -path /etc/gshadow- \
    -o -path /etc/.fstab -o -name .sudo_as_admin_successful "$@" \) -prune -o \
    \( -type f -printf '%p %m %u %g ' -exec sha256sum {} \; \) -o -printf '%p %y %m %u %g %l\n' |
    sed 's/  .*//'
} | sort
