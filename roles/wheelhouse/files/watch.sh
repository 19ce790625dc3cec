# watch.sh WORK VENV PACKAGES: up to 12 seconds later, how far the installer is; `ended` where it is
# no more. It unpacks in WORK/cache, and links what is unpacked into VENV.
work=$1 venv=$2 packages=$3
for _ in $(seq 60); do
  [ ! -e "$work/pid" ] || [ -d "/proc/$(cat "$work/pid")" ] || { echo ended; exit; }
  sleep 0.2
done
count() { ls -d "$@" 2> /dev/null | wc -l; }
installed=$(count "$venv"/lib/python3*/site-packages/*.dist-info)
if [ "$installed" -gt 0 ]; then
  echo "$installed of $packages packages installed"
else
  size=$(du -sm "$work/cache" 2> /dev/null | cut -f 1)
  echo "$(count "$work"/cache/archive-*/*/*.dist-info) of $packages packages unpacked (${size:-0} MB)"
fi
