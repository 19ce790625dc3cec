#!/bin/sh
# build.sh ARCHIVE SHA256 PREFIX: Python in PREFIX, built from ARCHIVE beside this script. Started
# again, it goes on where it was. PREFIX/.source-sha256 is written last.
set -eu
cd "$(dirname "$0")"
archive=$1 sha256=$2 prefix=$3
export LC_ALL=C

step() {
  echo "$1" > step
  echo "== $1"
}

# About 512 MB for each compiler; in a container its limit counts.
jobs=$({
  awk '/^MemTotal/ { print $2 }' /proc/meminfo
  cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null |
    awk '/^[0-9]+$/ { print int($1 / 1024) }'
} | sort -n | awk -v cores="$(nproc)" 'NR == 1 {
  jobs = int($1 / 524288 + 0.5)
  print (jobs < 1 ? 1 : jobs > cores ? cores : jobs) }')

if [ "$(cat unpacked 2> /dev/null)" != "$sha256" ]; then
  step unpacking
  rm -rf unpacked configured source
  echo "$sha256  $archive" | sha256sum --check --status
  mkdir source
  tar -xzf "$archive" -C source --strip-components=1
  sync
  echo "$sha256" > unpacked
fi

if [ ! -e configured ]; then
  step configuring
  rm -rf objects
  mkdir objects
  cd objects
  # The environment needs no pip, and wheels are all that is installed: no static library, which is
  # half of the size. Nobody runs Python's own tests on a node. Debian's expat gets its security
  # updates from Debian. No --enable-optimizations, which trains the interpreter for 10% more speed
  # of Python and triples the hour of a Pi 3: what takes time here is torch.
  ../source/configure --prefix="$prefix" --without-ensurepip --without-static-libpython \
    --disable-test-modules --with-system-expat
  cd ..
  sync
  touch configured
fi

# What was written in the minute before the power was cut may be half written, and make would take
# it as made.
last=$(find objects -type f -newer configured -printf '%Ts\n' | sort -n | tail -n 1)
if [ "$last" ]; then
  find objects -type f -newer configured -newermt "@$((last - 60))" -delete
fi

step "compiling $jobs at a time"
make -C objects -j "$jobs"
step installing
make -C objects install
# pip and setuptools of that year, which nothing here needs.
rm -rf "$prefix"/lib/python3.*/ensurepip/_bundled
"$prefix/bin/python3" -I -c 'import bz2, ctypes, hashlib, lzma, sqlite3, ssl, venv, xml.parsers.expat, zlib'
sync
echo "$sha256" > "$prefix/.source-sha256"
# From where it is not: this script lies there.
cd /
exec rm -rf "$OLDPWD"
