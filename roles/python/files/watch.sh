# watch.sh UNIT PREFIX SHA256 OBJECTS: up to 12 seconds later, how far the build is; exit status 1
# if it has failed.
unit=$1 prefix=$2 sha256=$3 objects=$4
for _ in $(seq 12); do
  systemctl -q is-active "$unit" || break
  sleep 1
done
if systemctl -q is-active "$unit"; then
  step=$(cat build/step 2> /dev/null)
  case $step in
    compiling*) echo "$step: $(find build/objects -name '*.o' | wc -l) of about $objects files" ;;
    *) echo "$step" ;;
  esac
elif grep -qx "$sha256" "$prefix/.source-sha256" 2> /dev/null; then
  echo 'built'
else
  tail -n 20 build/build.log >&2
  exit 1
fi
