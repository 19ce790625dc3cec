"""What a playbook says beside its tasks: how long each role took, and at the very end what failed.

A task that takes long is named every 15 seconds, with the nodes that are still at it, unless it
tells of itself. A program that a task starts on this machine can say how far it is: a line in a
file of its own in the folder $FEDRNN_PROGRESS.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

sys.path.append(str(Path(__file__).parents[1]))  # Ansible knows no folder of ours
from fedrnn.printable import printable

DOCUMENTATION = """
name: epilogue
type: aggregate
short_description: how long roles take, who is still at a long task, and what failed, last
description: Enabled in ansible.cfg.
"""
SECONDS = 15.0
SECRET = ("-e", "--extra-vars")


class CallbackModule(CallbackBase):
    """Ansible calls it; see its documentation on callback plugins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "epilogue"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._took: dict[str, float] = {}
        self._failed: dict[str, tuple[str, str]] = {}
        self._busy: set[str] = set()
        self._role, self._task, self._last_words = "", "", ""
        self._since = self._told = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="progress-")
        os.environ["FEDRNN_PROGRESS"] = self._folder.name
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        while True:
            time.sleep(1)
            now = time.monotonic()
            if not self._busy or now - max(self._since, self._told) < SECONDS:
                continue
            self._told = now
            words = [f"{now - self._since:.0f} s", *sorted(self._busy), *self._progress()]
            line = f"… {self._task}: {', '.join(words)}\n"
            # Not by a stream of Python's: Ansible forks, and a child would inherit its lock.
            os.write(2, line.encode(sys.stderr.encoding or "ascii", "replace"))

    def _progress(self) -> list[str]:
        said = []
        for file in sorted(Path(self._folder.name).iterdir()):
            with contextlib.suppress(FileNotFoundError):  # the task has just ended
                said.append(file.read_text(errors="replace").strip())
        return said

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins; the time until now was the one's before."""
        self._close()
        self._role = task._role.get_name() if task._role else "the playbook itself"
        self._task = task.get_name()

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a task."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A node is at it."""
        self._busy = {*self._busy, host.get_name()}

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """A task that goes on step by step has told of one."""
        self._told = time.monotonic()

    def _close(self) -> None:
        now = time.monotonic()
        if self._role:
            self._took[self._role] = self._took.get(self._role, 0.0) + now - self._since
        self._since, self._busy = now, set()
        for file in Path(self._folder.name).iterdir():
            file.unlink()

    def _done(self, result: Any) -> None:
        self._busy = self._busy - {result._host.get_name()}

    v2_runner_on_skipped = _done

    def v2_runner_on_ok(self, result: Any) -> None:
        """Remember a playbook's last words, and no ansible_stats that a node's module returns."""
        self._done(result)
        if result._task.action == "ansible.builtin.set_stats":
            self._last_words = result._result["ansible_stats"]["data"].get("last_words", "")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Remember what a node says, unless nobody minds."""
        self._done(result)
        if not ignore_errors:
            self._remember(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Remember it likewise."""
        self._done(result)
        self._remember(result)

    def _remember(self, result: Any) -> None:
        told = result._result
        hidden = told.get("_ansible_no_log") or result._task.no_log
        said = "" if hidden else told.get("msg") or told.get("stderr") or told.get("stdout")
        text = said if isinstance(said, str) else str(said)
        shown = printable(text.strip()) or "it says no more"
        self._failed[result._host.get_name()] = result._task.get_name(), shown

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Say the roles' times and, last of all, what failed and how to go on."""
        self._close()
        self._role = ""
        roles = sorted(self._took.items(), key=lambda one: -one[1])
        if sum(self._took.values()) >= 1:
            told = ", ".join(f"{name} {took:.0f} s" for name, took in roles if took >= 0.5)
            self._display.display(f"Time by role: {told}")
        failed = {
            name: said
            for name, said in self._failed.items()
            if stats.failures.get(name) or stats.dark.get(name)
        }
        if not failed:
            return
        for name, (task, said) in failed.items():
            what = "cannot be reached" if stats.dark.get(name) else "failed"
            self._display.display(f"\n{name} {what}: {task}", color="red")
            self._display.display(f"    {said}", color="red")
        # A playbook's own, by ansible.builtin.set_stats: what a node that is gone cannot tell.
        if self._last_words:
            self._display.display(f"\n{self._last_words}")
        self._display.display(f"\nOnce that is mended, go on with: {command(sys.argv)}")


def command(words: list[str]) -> str:
    """Return a command line as it is typed, without what variables hold."""
    shown = [Path(words[0]).name]
    for before, word in pairwise(words):
        glued = word not in SECRET and word.startswith(("-e", "--extra-vars="))
        hidden = before in SECRET or glued
        shown.append("…" if hidden else shlex.quote(word))
    return " ".join(shown)
