"""Tell, as one JSON object, what Ansible's facts do not: run on the node by its python3."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

# A container's limit; "max" or no such file where there is none. cgroup v2, then v1.
limits = []
for name in ("memory.max", "memory/memory.limit_in_bytes"):
    with suppress(OSError, ValueError):
        limits.append(int((Path("/sys/fs/cgroup") / name).read_text()))
pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
# Without this controller nobody's memory can be limited: cgroup v2, then v1.
cgroup = Path("/sys/fs/cgroup")
controllers = cgroup / "cgroup.controllers"
limited = (
    "memory" in controllers.read_text().split()
    if controllers.exists()
    else (cgroup / "memory").exists()
)
disk = os.statvfs("/opt")
dpkg = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True)

print(
    json.dumps(
        {
            "architecture": dpkg.stdout.strip(),
            "python": "{}.{}".format(*sys.version_info),
            "memory_mib": min([pages, *limits]) // 2**20,
            "memory_limits": limited,
            "disk_mib": disk.f_bavail * disk.f_frsize // 2**20,
            "atomics": "atomics" in Path("/proc/cpuinfo").read_text().split(),
            "clock": time.time(),
        }
    )
)
