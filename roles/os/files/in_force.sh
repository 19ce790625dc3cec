# Puts settings in force. $@: the files, written now or by an interrupted run.
set -eu
for file in "$@"; do
  case $file in
    */journald.conf.d/*) systemctl try-restart systemd-journald ;;
    */tmp.mount)
      systemctl daemon-reload
      wanted=/etc/systemd/system/local-fs.target.wants/tmp.mount
      # The distribution may have a unit of this name, too, which its owner has enabled.
      if [ -e "$file" ]; then systemctl --quiet enable tmp.mount; elif [ ! -e $wanted ]; then rm -f $wanted; fi
      ;;
  esac
done
