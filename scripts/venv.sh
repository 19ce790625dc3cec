#!/bin/bash
# venv.sh: .venv has what requirements.txt pins. Does nothing when it already does.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=$(grep -o '^torch==[^ ;]*' requirements.txt)

if [ -x .venv/bin/python ] && cmp -s requirements.txt .venv/requirements.txt; then
  exit 0
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "fedrnn needs Python 3.11 or newer on this machine; python3 is $(python3 --version)." >&2
  exit 1
}
# One that was interrupted has a Python and no pip.
if ! .venv/bin/python -m pip --version > /dev/null 2>&1; then
  python3 -c 'import ensurepip' 2> /dev/null || {
    echo "This machine's Python makes no .venv: on Debian and Ubuntu install the package python3-venv." >&2
    exit 1
  }
  echo "▶ python3 -m venv --clear .venv"
  python3 -m venv --clear .venv
fi
# Without --no-compile, pip would compile 20,000 files of which most are never imported.
pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-compile)

# torch alone first: only the CPU build, from wherever pip's own find-links has it or else from
# PyTorch's index, which would slow down every other package if it were asked for them too.
"${pip[@]}" --no-deps --no-index "$torch" 2> /dev/null ||
  "${pip[@]}" --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch" || {
  echo "Neither PyTorch's index nor pip's find-links has $torch for this Python. Without a way to" \
    "download.pytorch.org, fetch the wheel elsewhere and name its folder: PIP_FIND_LINKS=FOLDER make venv" >&2
  exit 1
}
echo "▶ .venv/bin/pip install -r requirements.txt"
"${pip[@]}" -r requirements.txt
cp requirements.txt .venv/requirements.txt
