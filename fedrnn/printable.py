"""What others say, as a terminal may show it: the one way of a node's words to a person.

Standard library only: nodes, role preflight's judge and Ansible's callbacks import it.
"""

from __future__ import annotations

import re

MOST = 1_000
"""Characters of one text that a person is shown."""
# Letters and marks that are drawn as nothing, which `str.isprintable` lets pass.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U0001d159\U000e0100-\U000e01ef]"
)


def printable(text: object, most: int | None = MOST) -> str:
    """Return text of others on one line, with every character escaped that is not just drawn.

    Line breaks, escape codes, marks that turn the direction, and what cannot be seen are escaped as
    in Python. Tabs stay. Of more than `most` characters the middle is replaced by their number.
    """
    told = str(text)
    if most is not None and len(told) > most:
        end = (most - 36) // 2  # the words between take no more
        told = f"{told[:end]}… ({len(told) - 2 * end:,} characters more) …{told[-end:]}"
    return "".join(
        c if c == "\t" or (c.isprintable() and not _BLANK.match(c)) else _escaped(c) for c in told
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
