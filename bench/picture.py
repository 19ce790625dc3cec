"""`python -m bench.picture`: the terminal picture of the README, from a real run on the lab."""

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
COMMANDS = (
    ["python", "-m", "fedrnn.run"],
    ["python", "-m", "fedrnn.predict", "Kowalski", "Papadopoulos", "Virtanen"],
)
SKIPPED = slice(14, -14)  # most of the rounds, which look alike


def main() -> None:
    """Run the commands and draw what they print."""
    console = Console(record=True, width=92, file=io.StringIO())
    for command in COMMANDS:
        console.print(Text(f"$ {' '.join(command)}", style="bold green"))
        done = subprocess.run(
            [sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=True
        )
        lines = done.stdout.splitlines()
        if len(lines) > 30:
            lines[SKIPPED] = ["   …"]
        console.print(Text("\n".join(lines)))
    picture = ROOT / "docs" / "demo.svg"
    drawn = console.export_svg(title="fedrnn", theme=MONOKAI)
    # A picture that fetches nothing: the reader's own monospaced font serves.
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))
    print(picture)


if __name__ == "__main__":
    main()
