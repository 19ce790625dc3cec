"""Whether the node that answers at an address is the one that the inventory means there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

KEY_SECONDS = 5.0  # that a host may take to show its key
Found = tuple[str, dict[str, object]]  # as in checks.py
Address = tuple[str, int]  # host, port


def mistaken(
    name: str, shown: str, pins: Mapping[str, str], inventory: Collection[str], called: str = ""
) -> Iterator[Found]:
    """Yield what is wrong with the identity that a node shows, "" for none.

    `pins` has the pinned identities by node. `called` is the node of the inventory whose host name
    a node has that was provisioned before.
    """
    pin = pins.get(name, "")
    other = next((node for node, identity in pins.items() if identity == shown), "")
    if pin and pin == shown:
        return
    if other in inventory:
        yield "exchanged", {"other": other, "what": "identity"}
    elif pin:
        yield "identity", {"shown": "another" if shown else "no"}
    elif other:
        yield "renamed", {"other": other}
    elif called not in ("", name):
        yield "exchanged", {"other": called, "what": "host name"}
    elif shown:
        yield "unpinned", {}


async def key_holder(
    name: str, addresses: Mapping[str, Address], known_hosts: Path, jump: str = ""
) -> str:
    """Return the node for which the host key is pinned that is shown at another's address.

    "" where it is pinned for none, or cannot be looked at. `jump` is the way, as for asyncssh.
    """
    import asyncssh  # only now: it takes half a second, and is needed rarely

    host, port = addresses[name]
    try:
        pinned = asyncssh.read_known_hosts(str(known_hosts))
        async with asyncio.timeout(KEY_SECONDS):
            shown = await asyncssh.get_server_host_key(
                host, port, tunnel=jump or (), server_host_key_algs=["ssh-ed25519"],
                config=() if jump else None,
            )  # fmt: skip
    except (OSError, ValueError, asyncssh.Error):
        return ""
    others = {node: address for node, address in addresses.items() if node != name}
    return next((o for o, (h, p) in others.items() if shown in pinned.match(h, "", p)[0]), "")
