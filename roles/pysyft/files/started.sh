# Gives the gate's account its shell and starts the datasite when there is something to do. Prints
# `changed` if anything on the node differs then.
set -eu
units='fedrnn-launch.socket fedrnn-datasite.path'
manager=user@$(id -u fedrnn).service

state() {
  getent passwd fedrnn
  systemctl is-enabled "$manager" $units fedrnn-datasite.service || :
  systemctl is-active $units || :
} 2>&1

before=$(state)
# A shell that knows the gate alone.
usermod --shell /opt/fedrnn/bin/shell fedrnn > /dev/null
# PAM would start one for every login: 15 MB for an account whose logins end in one program.
systemctl --quiet mask "$manager"
# The service itself once at boot: what a power cut left as running has failed.
systemctl --quiet enable $units fedrnn-datasite.service
systemctl start $units
[ "$before" = "$(state)" ] || echo changed
