# Changes settings of sshd without locking anybody out: tasks/sshd.yml has the steps in between.
#   try PATH TEXT …  sshd reads these files, an empty text being no file. In $UNDO_SECONDS the node
#                    takes them back: a connection that is dead by then cannot do it
#   keep             a new connection has proved them: they stay, and their sums are noted
set -eu
before=/run/fedrnn-sshd # the files as they were, until the new ones are proved

# By the timer's unit, which waits for an undo that has begun.
take_back() {
  systemctl start fedrnn-ssh-undo.service 2> /dev/null || [ ! -e $before.sh ] || sh $before.sh
  systemctl stop fedrnn-ssh-undo.timer 2> /dev/null || :
}

save() {
  rm -rf $before.new
  mkdir -m 700 $before.new
  while [ $# -gt 0 ]; do
    echo "$1" >> $before.new/files
    if [ -e "$1" ] || [ -L "$1" ]; then
      mkdir -p "$before.new${1%/*}"
      cp -a "$1" "$before.new$1"
    fi
    shift 2
  done
  mv -T $before.new $before
}

write() {
  while [ $# -gt 0 ]; do
    rm -f "$1.new"
    mkdir -p "${1%/*}"
    printf %s "$2" > "$1.new"
    chmod 644 "$1.new"
    mv -T "$1.new" "$1"
    [ -n "$2" ] || rm "$1"
    shift 2
  done
}

if [ "$1" = keep ]; then
  systemctl stop fedrnn-ssh-undo.timer 2> /dev/null || :
  rm -rf $before.kept
  if ! mv -T $before $before.kept; then
    echo 'the proof came late: the node has taken the settings back' >&2
    exit 1
  fi
  rm -r $before.kept $before.sh
  noted=/opt/fedrnn/.sshd-in-force # what preflight compares the files with
  if sums=$(sha256sum /etc/ssh/sshd_config.d/*fedrnn*.conf 2> /dev/null); then
    echo "$sums" > $noted
  else
    rm -f $noted
  fi
  exit
fi

shift
# What an interrupted run has left unproved is not what was there before.
take_back
cat > $before.sh << 'UNDO'
set -eu
# Whoever can move the folder decides: this, or `keep`.
mv -T /run/fedrnn-sshd /run/fedrnn-sshd.undo 2> /dev/null || :
[ -e /run/fedrnn-sshd.undo ] || exit 0
cd /run/fedrnn-sshd.undo
while read -r file; do
  if [ -e ".$file" ] || [ -L ".$file" ]; then
    cp -a ".$file" "$file.new"
    mv -T "$file.new" "$file"
  else
    rm -f "$file" "$file.new"
  fi
done < files
# sshd goes on as it is where it cannot read them, as it could not before.
! sshd -t || systemctl try-reload-or-restart ssh
rm -r /run/fedrnn-sshd.undo /run/fedrnn-sshd.sh
UNDO
save "$@"
# A file, not a command in words: Debian 12's systemd-run writes $ and ; in a way that systemd misreads.
systemd-run --quiet --collect --unit=fedrnn-ssh-undo --property=Type=oneshot \
  --on-active="$UNDO_SECONDS" --timer-property=AccuracySec=1s sh $before.sh
write "$@"
if ! said=$(sshd -t 2>&1); then
  take_back
  echo "sshd refuses the settings, which were taken back: $said" >&2
  exit 1
fi
systemctl try-reload-or-restart ssh
