#!/bin/bash
# demo.sh: from nothing to a prediction. Every command shown can be typed by hand afterwards.
set -euo pipefail
step_count=4
. "$(dirname "$0")/steps.sh"

title "What the controller needs: system packages and .venv"
run scripts/system.sh
run scripts/venv.sh
export PATH="$PWD/.venv/bin:$PATH"

title "Three nodes, built by Ansible"
run ansible-playbook site.yml

title "Training on the three nodes, each with its own languages"
run python -m fedrnn.run

title "A prediction with the trained model"
run python -m fedrnn.predict Kowalski Papadopoulos Virtanen
finish
printf '\nTo go on by hand: source .venv/bin/activate. To remove the nodes: make lab-down.\n'
