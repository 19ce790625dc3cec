"""`python -m bench.picture`: the terminal picture of the README, from a real run on the lab."""

import io
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
ROWS, COLUMNS = 50, 92
COMMANDS = (
    ["python", "-m", "fedrnn.run"],
    ["python", "-m", "fedrnn.predict", "Kowalski", "Papadopoulos", "Virtanen"],
)
# What the live view moves the cursor with: to a line's begin, up, and rid of a line.
MOVES = re.compile(r"(\r?\n|\r|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])")


def typed(command: list[str]) -> str:
    """Run a command in a terminal and return all that it writes there; ends if it fails."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (ROWS, COLUMNS))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        [sys.executable, *command[1:]], cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    written = b""
    while True:
        try:
            written += os.read(ours, 1 << 16)
        except OSError:  # nobody has it open any more
            break
    os.close(ours)
    if process.wait():
        sys.exit(f"{' '.join(command)} failed:\n{written.decode()}")
    return written.decode()


def screen(written: str) -> str:
    """Return what a terminal shows in the end, with its colours."""
    lines, row = [""], 0
    for part in MOVES.split(written):
        if part.endswith("\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not MOVES.fullmatch(part):
            lines[row] += part
    return "\n".join(lines).rstrip()


def main() -> None:
    """Run the commands and draw what their terminal shows."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for command in COMMANDS:
        console.print(Text(f"$ {' '.join(command)}", style="bold green"))
        console.print(Text.from_ansi(screen(typed(command))))
    picture = ROOT / "docs" / "demo.svg"
    drawn = console.export_svg(title="fedrnn", theme=MONOKAI)
    # A picture that fetches nothing: the reader's own monospaced font serves.
    picture.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))
    print(picture)


if __name__ == "__main__":
    main()
