# `. steps.sh COUNT`, by demo.sh and test.sh: numbered steps, each announced by the command that it
# runs. Where STEPS_FILE is set, each step's name, wall and CPU seconds go there.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
step_count=$1
step_number=0
step_title=''
step_started=$SECONDS
step_cpu=0

# cpu: CPU seconds of this machine since its start, containers included.
cpu() {
  local user nice system idle wait irq soft
  read -r _ user nice system idle wait irq soft _ < /proc/stat
  echo $(((user + nice + system + irq + soft) / $(getconf CLK_TCK)))
}

# title TEXT: begins the next step and closes the one before with its time.
title() {
  finish
  step_number=$((step_number + 1))
  step_title=$1
  step_started=$SECONDS
  step_cpu=$(cpu)
  printf '\n\033[1m[%d/%d] %s\033[0m\n' "$step_number" "$step_count" "$1"
}

finish() {
  [ "$step_number" -gt 0 ] || return 0
  local took=$((SECONDS - step_started))
  printf '      took %d s, %d s in all\n' "$took" "$SECONDS"
  [ -z "${STEPS_FILE:-}" ] ||
    printf '%s\t%d\t%d\n' "$step_title" "$took" $(($(cpu) - step_cpu)) >> "$STEPS_FILE"
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

# controller [check|board|browser]…: the first step, with what tests need beside it.
controller() {
  title "What the controller needs: system packages and .venv"
  run scripts/system.sh "$@"
  run scripts/venv.sh
  export PATH="$PWD/.venv/bin:$PATH"
}
