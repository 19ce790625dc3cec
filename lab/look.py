"""Prints as JSON what the engine is here, and what podman has of this clone's lab.

One look for all nodes: each question of its own would be a task that every run pays for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import LabError, describe


def look(lab: dict[str, Any]) -> dict[str, Any]:
    """`images_here` by name, the network's `subnet` ("" without one), and `containers` by name."""

    def podman(*words: str) -> list[Any]:
        command = [*lab["podman"], *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"podman {' '.join(words)} failed: {done.stderr.strip()}")
        told: list[Any] = json.loads(done.stdout or "[]")
        return told

    ours = ("--format", "json", "--filter", f"label={lab['label']}")
    images = [name for image in podman("images", *ours) for name in image.get("Names") or []]
    networks = [n for n in podman("network", "ls", *ours) if n["name"] == lab["prefix"]]
    ids = [container["Id"] for container in podman("ps", "--all", *ours)]
    containers = dict(states(podman("container", "inspect", *ids))) if ids else {}
    subnet = networks[0]["subnets"][0]["subnet"] if networks else ""
    return {"images_here": images, "subnet": subnet, "containers": containers}


def states(inspected: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of each container, with its image, its status and the port of its sshd.

    podman believes in one whose processes somebody killed together with podman's own: `killed`.
    """
    for container in inspected:
        state = container["State"]
        killed = state["Pid"] and not Path(f"/proc/{state['Pid']}").is_dir()
        bound = (container["HostConfig"]["PortBindings"] or {}).get("22/tcp") or [{}]
        yield (
            container["Name"],
            {
                "image": container["ImageName"],
                "status": "killed" if killed else state["Status"],
                "port": bound[0].get("HostPort"),
            },
        )


if __name__ == "__main__":
    try:
        lab = describe()
        print(json.dumps({**lab, **look(lab)}))
    except LabError as error:
        sys.exit(str(error))
