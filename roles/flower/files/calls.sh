# Has the SuperNode run as its unit, its authority and its key say. Prints `changed` if it had to do
# anything.
set -eu
unit=flower-supernode.service
applied=/etc/fedrnn/flower/.applied # the sums of what it was started with

sums() {
  sha256sum /usr/local/lib/systemd/system/$unit /etc/fedrnn/flower/authority.crt /etc/fedrnn/flower/supernode.pub
}

listens() {
  journalctl --quiet --output cat "_SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID $unit)" |
    grep -q 'Uvicorn running on'
}

wanted=$(sums)
if [ "$wanted" = "$(cat $applied 2> /dev/null)" ] &&
  systemctl --quiet is-active $unit && systemctl --quiet is-enabled $unit; then
  exit
fi
rm -f $applied # whoever does not come up is looked at again, though systemd tries it meanwhile
systemctl daemon-reload
systemctl --quiet enable $unit
systemctl stop $unit
systemctl --quiet reset-failed $unit 2> /dev/null || : # it counts restarts
systemctl start $unit
# Who listens has read key and authority; a Pi imports for half a minute first. Whoever cannot start
# ends, and is told of here; systemd would try for ever.
seconds=0
until systemctl --quiet is-active $unit && listens; do
  seconds=$((seconds + 1))
  [ "$(systemctl show -P NRestarts $unit)" = 0 ] && systemctl --quiet is-active $unit &&
    [ $seconds -lt 180 ] || {
    journalctl --no-pager --lines 20 --unit $unit >&2
    exit 1
  }
  sleep 1
done
echo "$wanted" > $applied
echo changed
