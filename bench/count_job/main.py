"""Count the rows of each label: a small, ordinary job, the same for both sides."""

import json
import os
from pathlib import Path

files = sorted(Path(os.environ["FEDRNN_DATA"]).glob("*.txt"))
counts = {file.stem: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
Path("outputs").mkdir(exist_ok=True)
Path("outputs/counts.json").write_text(json.dumps(counts))
