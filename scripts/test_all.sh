#!/bin/bash
# test_all.sh SUITE…: runs `make SUITE` one after the other, whatever fails, and ends with a table.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache/test-logs
table=''
failed=0
for suite in "$@"; do
  log=.cache/test-logs/$(date +%Y-%m-%dT%H-%M-%S)-make-$suite.log
  printf '\n\033[1m▶ make %s\033[0m\n' "$suite"
  started=$SECONDS
  if make --no-print-directory "$suite" 2>&1 | tee "$log"; then
    result=passed
  else
    result=failed
    failed=1
  fi
  table+=$(printf '%-14s %-8s %8s  %s' "$suite" "$result" \
    "$(((SECONDS - started + 30) / 60))" "$log")$'\n'
done
printf '\n%-14s %-8s %8s  %s\n%s' suite result minutes log "$table"
exit "$failed"
