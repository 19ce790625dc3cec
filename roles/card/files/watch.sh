# watch.sh FILE: ten seconds later, or at its end, how far the writing of a card is; `ended` where
# the process that FILE begins with is no more, or where none began within twenty seconds. The
# writer ends where nobody touches FILE any more.
for _ in $(seq 20); do
  touch -ac "$1"
  [ -s "$1" ] && break
  sleep 1
done
for _ in $(seq 10); do
  touch -ac "$1"
  read -r pid said < "$1" && [ -d "/proc/$pid" ] || { echo ended; exit; }
  sleep 1
done
echo "$said"
