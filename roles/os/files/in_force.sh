# Puts settings in force. $@: the files, written now or by an interrupted run. sshd is asked first
# whether it can read its file; one that it cannot read is taken away again, and the sshd that runs
# goes on. What it can read is taken back in $UNDO_SECONDS by the node itself, unless the role has
# come in anew and stops the timer: a connection that is dead by then cannot do it.
set -eu
for file in "$@"; do
  case $file in
    /etc/ssh/*)
      if ! said=$(sshd -t 2>&1); then
        rm -f "$file"
        echo "sshd refuses the settings, which were taken back: $said" >&2
        exit 1
      fi
      if [ -e "$file" ]; then
        systemctl stop fedrnn-ssh-undo.timer 2> /dev/null || :
        # Without $ and ;, which systemd-run would write in a way that Debian 12's systemd misreads.
        systemd-run --quiet --collect --unit=fedrnn-ssh-undo --on-active="$UNDO_SECONDS" \
          sh -c "rm -f $file && systemctl try-reload-or-restart ssh"
      fi
      systemctl try-reload-or-restart ssh
      ;;
    */journald.conf.d/*) systemctl try-restart systemd-journald ;;
    */tmp.mount)
      systemctl daemon-reload
      wanted=/etc/systemd/system/local-fs.target.wants/tmp.mount
      # The distribution may have a unit of this name, too, which its owner has enabled.
      if [ -e "$file" ]; then systemctl --quiet enable tmp.mount; elif [ ! -e $wanted ]; then rm -f $wanted; fi
      ;;
  esac
done
