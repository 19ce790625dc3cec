"""What a card costs that is checked, written, read back and compared.

`python -m bench.card` writes an image of 2 GB into a file, three times, each time beside what a
careful person types. Needs 6 GB in /var/tmp and no lab; about a minute. `python -m bench.provision`
measures it, too; both write it among the results of provisioning.

card: `write.py write`, which checks the image's SHA-256 first, as a multiple of `dd` to the medium
      and `cmp` with what the medium, and not the cache, gives back
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Row, explained, publish, row

RESULTS = Path(__file__).parent / "results" / "provision.json"
PROGRAM = Path(__file__).parents[1] / "roles" / "card" / "files" / "write.py"
BYTES, PAIRS = 2_000_000_000 // 4096 * 4096, 3
# The cache of the medium is dropped between the two, as our program reads past it.
RIVAL = """
dd if="$1" of="$2" bs=4M conv=fsync,notrunc status=none
dd of="$2" oflag=nocache conv=notrunc,fdatasync count=0 status=none
cmp --bytes="$3" "$1" "$2"
"""


def make(image: Path) -> str:
    """Write an image that no cache or file system can make smaller; return its SHA-256."""
    digest, block = hashlib.sha256(), bytearray(os.urandom(4 << 20))
    block[510:512] = b"\x55\xaa"
    with image.open("wb") as file:
        for number in range(0, BYTES, len(block)):
            block[:8] = number.to_bytes(8, "little")
            file.write(block[: BYTES - number])
            digest.update(block[: BYTES - number])
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def seconds(*command: str | Path) -> float:
    """Run a command; give what it took. Ends with what it says if it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr[-1000:]}")
    return time.perf_counter() - started


def card() -> Row:
    """Return the median of our seconds beside that of dd and cmp, turn by turn."""
    times: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="card-", dir="/var/tmp") as box:
        folder = Path(box)
        image, ours, theirs = folder / "os.img", folder / "ours", folder / "theirs"
        digest = make(image)
        for medium in (ours, theirs):
            subprocess.run(["fallocate", "--length", str(BYTES + (1 << 20)), medium], check=True)
        for _ in range(PAIRS):
            rival = seconds("sh", "-euc", RIVAL, "sh", image, theirs, str(BYTES))
            written = seconds(sys.executable, PROGRAM, "write", image, ours, "--sha256", digest)
            times.append((written, rival))
    written, rival = (statistics.median(column) for column in zip(*times, strict=True))
    return row("card", "s", written, rival, 1.5, 1.1, of="dd and cmp, without a checksum")


def main() -> None:
    """Measure, print the table and write the row."""
    explained("card", __doc__).parse_args()
    others = [one for one in json.loads(RESULTS.read_text()) if one["figure"] != "card"]
    publish([*others, card()], RESULTS)


if __name__ == "__main__":
    main()
