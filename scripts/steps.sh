# `. steps.sh COUNT`, by demo.sh and test.sh: numbered steps, each announced by the command that it
# runs.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
step_count=$1
step_number=0
step_started=$SECONDS

# title TEXT: begins the next step and closes the one before with its time.
title() {
  finish
  step_number=$((step_number + 1))
  step_started=$SECONDS
  printf '\n\033[1m[%d/%d] %s\033[0m\n' "$step_number" "$step_count" "$1"
}

finish() {
  [ "$step_number" -eq 0 ] || printf '      took %d s, %d s in all\n' \
    $((SECONDS - step_started)) "$SECONDS"
}

# run COMMAND…: shows the command as one would type it, then runs it.
run() {
  printf '▶ %s\n' "$*"
  "$@" || {
    local status=$?
    printf '\n✗ "%s" failed (exit %d) in step %d of %d, after %d s.\n' \
      "$*" "$status" "$step_number" "$step_count" "$SECONDS" >&2
    exit "$status"
  }
}

# controller: the first step of both.
controller() {
  title "What the controller needs: system packages and .venv"
  run scripts/system.sh
  run scripts/venv.sh
  export PATH="$PWD/.venv/bin:$PATH"
}
