# nodes.sh: what `python -m fedrnn.nodes` asks beside preflight's probe.sh, which goes in front and
# brings `ask`, $root and what a container may not be asked.
ask kernel_release 'uname -r'
ask pretty 'sed -n "s/^PRETTY_NAME=\"\(.*\)\"/\1/p" /etc/os-release'
ask uptime 'cat /proc/uptime'
ask meminfo 'cat /proc/meminfo'
ask venv '/opt/fedrnn/venv/bin/python -I --version
  ls /opt/fedrnn/venv/lib/python3*/site-packages | sed -n "s/\.dist-info$//p" | grep -E "^(torch|syft)-"'
ask vcgencmd 'command -v vcgencmd'
ask datasite 'systemctl is-active fedrnn-datasite.path'
ask datasite_failed 'systemctl is-failed fedrnn-datasite.service'
ask drained "$root ls /etc/fedrnn/drained"
ask last_job "$root sh -c 'ls -t /var/lib/fedrnn/published/*/jobs/*.json | head -n 1 | xargs cat'"
printf '\n@ told\n'
