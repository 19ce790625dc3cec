#!/bin/bash
# test.sh: what must hold, cheapest first. What takes long has targets of its own: see make help.
set -euo pipefail
. "$(dirname "$0")/steps.sh" 6

controller
run scripts/system.sh board browser
run make --no-print-directory simulation

title "Lint and types"
run scripts/lint.sh

title "Units and contracts, no node; pages in Chromium; torch on the emulated core of a Pi 3"
run pytest -q tests/unit tests/contract tests/browser tests/board

title "The cluster: site.yml, its second run, training, and what goes wrong"
run pytest --verbose --durations=8 tests/e2e

title "Jobs and controllers that die in a round (all faults: make faults)"
run pytest --verbose --durations=4 -m quick tests/faults

title "What the nodes are, looked at over SSH"
run pytest -q tests/roles --inventory inventory/lab
finish
