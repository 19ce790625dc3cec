#!/bin/bash
# demo.sh: from nothing to a prediction. Every command shown can be typed by hand afterwards.
set -euo pipefail
. "$(dirname "$0")/steps.sh" 4

controller

title "Three nodes, built by Ansible"
run ansible-playbook site.yml

title "Training on the three nodes, each with its own languages"
run python -m fedrnn.run

title "A prediction with the trained model"
run python -m fedrnn.predict Kowalski Papadopoulos Virtanen
finish
printf '\nTo go on by hand: source .venv/bin/activate. To remove the nodes: make lab-down.\n'
