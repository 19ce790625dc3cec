#!/bin/bash
# test.sh [check]: lint, types, units and contracts; without `check` also everything that needs
# nodes, a browser or an emulated core. Cheap failures come first. The output is kept in a log.
set -euo pipefail
suite=${1:-test}
logs=$(dirname "$0")/../.cache/test-logs
# Three workers on two cores, since tests also wait. tests/conftest.py says which tests stay together.
several=(-n 3 --no-loadscope-reorder)

if [ -z "${STEPS_FILE:-}" ]; then
  mkdir -p "$logs"
  log=$logs/$(date +%Y-%m-%dT%H-%M-%S)-make-$suite.log
  : > "${log%.log}.tsv"
  status=0
  export PY_COLORS=0 # the last line is counted from the log
  STEPS_FILE=$(realpath "${log%.log}.tsv") "$0" "$@" 2>&1 | tee "$log" || status=$?
  passed=$(sed -nE 's/^(=+ )?([0-9]+ failed, )?([0-9]+) passed.* in [0-9.]+s.*/\3/p' "$log" |
    paste -sd+ | sed 's/^$/0/')
  [ "$status" = 0 ] && result=passed || result=failed
  printf 'make %s %s: %d tests passed in %d min %02d s. Log: %s\n' "$suite" "$result" \
    $((passed)) $((SECONDS / 60)) $((SECONDS % 60)) ".cache/test-logs/${log##*/}"
  exit "$status"
fi

if [ "$suite" = check ]; then
  . "$(dirname "$0")/steps.sh" 3
  controller check
else
  . "$(dirname "$0")/steps.sh" 5
  controller board browser
fi

title "Lint and types"
run scripts/lint.sh

if [ "$suite" = check ]; then
  title "Units and contracts"
  run pytest -q "${several[@]}" -m "not download and not apart and not slow" tests/unit tests/contract
else
  title "Units and contracts; pages in Chromium"
  run pytest -q "${several[@]}" tests/unit tests/contract tests/browser
fi

if [ "$suite" = test ]; then
  title "The cluster; torch on the emulated core of a Pi 3"
  run pytest --verbose "${several[@]}" --durations=12 tests/board tests/e2e tests/faults

  title "The state of the nodes, over SSH"
  newest=$(ls -t .cache/labs/gw*/inventory/lab/ports.yml | head -n 1)
  run pytest -q "${several[@]}" tests/roles --inventory "$(dirname "$newest")"
  run python3 lab/down.py --tests
fi
finish
