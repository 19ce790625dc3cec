#!/bin/bash
# lint.sh: style and types of Python, playbooks and roles.
set -euo pipefail
cd "$(dirname "$0")/.."
ruff check .
ruff format --check .
mypy &
types=$!
status=0
ansible-lint --offline || status=$?
wait "$types" || status=$?
exit "$status"
