# Has the SuperNode run as its unit, its authority and its key say. Prints `changed` if it had to do
# anything.
set -eu
unit=flower-supernode.service
applied=/etc/fedrnn/flower/.applied # the sums of what it was started with

sums() {
  sha256sum /usr/local/lib/systemd/system/$unit /etc/fedrnn/flower/authority.crt /etc/fedrnn/flower/supernode.pub
}

wanted=$(sums)
if [ "$wanted" = "$(cat $applied 2> /dev/null)" ] &&
  systemctl --quiet is-active $unit && systemctl --quiet is-enabled $unit; then
  exit
fi
systemctl daemon-reload
systemctl --quiet enable $unit
systemctl stop $unit
systemctl --quiet reset-failed $unit 2> /dev/null || : # it counts restarts
systemctl start $unit
# Whoever cannot start ends within seconds, and is told of here; systemd would try for ever.
sleep 8
[ "$(systemctl show -P NRestarts $unit)" = 0 ] && systemctl --quiet is-active $unit || {
  journalctl --no-pager --lines 20 --unit $unit >&2
  exit 1
}
echo "$wanted" > $applied
echo changed
