# Starts the datasite when there is something to do. Prints `changed` if it had to do anything.
set -eu
# The service itself once at boot: what a power cut left as running has failed.
units='fedrnn-launch.socket fedrnn-datasite.path fedrnn-datasite.service'
started='fedrnn-launch.socket fedrnn-datasite.path'
manager=user@$(id -u fedrnn).service

state() {
  echo $(systemctl is-enabled "$manager" $units; systemctl is-active $started)
}

# Each of the commands below makes systemd read all its files anew, a second of a Pi.
[ "$(state)" = 'masked enabled enabled enabled active active' ] && exit
# PAM would start one for every login: 15 MB for an account whose logins end in one program.
systemctl --quiet mask "$manager"
systemctl --quiet enable $units
systemctl start $started
echo changed
