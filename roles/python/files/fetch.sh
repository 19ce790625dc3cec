#!/bin/sh
# fetch.sh PATH FILE SHA256: Debian's PATH (pool/main/…) is in FILE and has its hash; `changed` if it
# had to be fetched. From the archives that apt on this machine knows, by apt's own settings.
set -eu
path=$1 file=$2 sha256=$3
mkdir -p "$(dirname "$file")"

right() { echo "$sha256  $file" | sha256sum --check --status 2> /dev/null; }

# Two runs at once do not fetch into each other.
exec 9> "$(dirname "$file")/.lock"
flock 9
if [ -e "$file" ] && right; then exit; fi
rm -f "$file"
for archive in $(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2> /dev/null | sort -u); do
  if /usr/lib/apt/apt-helper -o Acquire::http::Timeout=20 download-file \
    "$archive$path" "$file" "SHA256:$sha256" > "$file.log" 2>&1 && right; then
    rm "$file.log"
    echo changed
    exit
  fi
done
cat >&2 << END
None of the archives that apt on this machine knows has $path with the right hash.
Any mirror of Debian has it: fetch it with a browser or curl from http://MIRROR/debian/$path
to $file, and run the same command again; its hash is compared then.
END
cat "$file.log" >&2 2> /dev/null || :
exit 1
