"""Debian's own cloud-init, unpacked beside the tests and not installed: nothing of it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "cloud-init"
FETCH = """
apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
  --no-replaces --no-enhances cloud-init | grep -E '^(cloud-init|python3-)' | sort -u |
  grep -v '^python3-minimal$' | xargs apt-get -q download
for file in *.deb; do dpkg-deb -x "$file" root; done
"""


def cloud_init(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command of cloud-init's."""
    if not CACHE.exists():
        part = CACHE.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        subprocess.run(["bash", "-euo", "pipefail", "-c", FETCH], cwd=part, check=True)
        part.rename(CACHE)
    return subprocess.run(
        ["/usr/bin/python3", "-m", "cloudinit.cmd.main", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(CACHE / "root/usr/lib/python3/dist-packages")},
        cwd=CACHE, capture_output=True, text=True, check=False,
    )  # fmt: skip
