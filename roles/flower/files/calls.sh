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
systemctl restart $unit
# Whoever cannot start is seen at once, and is told of here.
sleep 2
systemctl --quiet is-active $unit || {
  journalctl --no-pager --lines 20 --unit $unit >&2
  exit 1
}
echo "$wanted" > $applied
echo changed
