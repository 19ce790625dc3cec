# watch.sh FILE: ten seconds later, or at its end, how far the writing of a card is; `ended` where
# the process that FILE begins with is no more.
for _ in $(seq 10); do
  read -r pid said < "$1" && [ -d "/proc/$pid" ] || { echo ended; exit; }
  sleep 1
done
read -r pid said < "$1"
echo "$said"
