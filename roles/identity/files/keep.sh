# keep.sh ID: the node keeps this identity. Fails where it has another one: two runs at once.
set -eu
umask 022
mkdir -p /opt/fedrnn
cd /opt/fedrnn
exec 9< .
flock 9
if ! expr "$(cat .identity 2> /dev/null)" : '[0-9a-f]\{32\}$' > /dev/null; then
  echo "$1" > .identity.new
  sync .identity.new
  mv -T .identity.new .identity
  sync .
fi
if [ "$(cat .identity)" != "$1" ]; then
  echo 'Another run has just given this node an identity. Wait for its end, then run again.' >&2
  exit 1
fi
