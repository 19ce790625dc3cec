"""Debian's own cloud-init, unpacked beside the tests and not installed: nothing of it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "cloud-init"
# That of this system with all that it imports, into `root`; of that of Debian 13 what the same can
# run, into `trixie`.
FETCH = """
apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
  --no-replaces --no-enhances cloud-init | grep -E '^(cloud-init|python3-)' | sort -u |
  grep -v '^python3-minimal$' | xargs apt-get -q download
for file in *.deb; do dpkg-deb -x "$file" root; done
mkdir trixie
mmdebstrap --variant=extract --include=cloud-init --skip=check/qemu,output/dev,output/mknod \
  trixie - | tar -C trixie -x ./usr/lib/python3/dist-packages/cloudinit
"""


def cloud_init(*arguments: str | Path, of: str = "root") -> subprocess.CompletedProcess[str]:
    """Run a command of cloud-init's: of this system's, or `of="trixie"`."""
    if not (CACHE / of).exists():
        part = CACHE.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        subprocess.run(["bash", "-euo", "pipefail", "-c", FETCH], cwd=part, check=True)
        shutil.rmtree(CACHE, ignore_errors=True)
        part.rename(CACHE)
    places = (CACHE / place / "usr/lib/python3/dist-packages" for place in (of, "root"))
    return subprocess.run(
        ["/usr/bin/python3", "-m", "cloudinit.cmd.main", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": ":".join(map(str, places))},
        cwd=CACHE, capture_output=True, text=True, check=False,
    )  # fmt: skip
