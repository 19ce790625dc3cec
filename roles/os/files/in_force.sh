# Puts settings in force. $@: the files, written now or by an interrupted run. sshd is asked first
# whether it can read its file; one that it cannot read is taken away again, and the sshd that runs
# goes on.
set -eu
for file in "$@"; do
  case $file in
    /etc/ssh/*)
      if ! said=$(sshd -t 2>&1); then
        rm -f "$file"
        echo "sshd refuses the settings, which were taken back: $said" >&2
        exit 1
      fi
      systemctl try-reload-or-restart ssh
      ;;
    */journald.conf.d/*) systemctl try-restart systemd-journald ;;
    */tmp.mount)
      systemctl daemon-reload
      if [ -e "$file" ]; then systemctl --quiet enable tmp.mount; else rm -f /etc/systemd/system/local-fs.target.wants/tmp.mount; fi
      ;;
  esac
done
