"""Which node answers: every case of pinned and shown identities, and the file that has the pins."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest
from sites import SENDER
from test_preflight import found, node, report_on, said

from fedrnn.datasite.researcher import NodeClient
from fedrnn.inventory import Inventory, Node
from fedrnn.pins import Pins, known_nodes
from fedrnn.transport.link import LinkError, SSHAddress, SSHLink

A, B, C = "a" * 32, "b" * 32, "c" * 32
PROGRAM = [sys.executable, known_nodes.__file__]
OTHER = {"hostname": "pi2", "machine": "0", "addresses": ""}


def judged(
    folder: Path, pins: dict[str, str], shown: dict[str, str], only: bool = False, **answers: str
) -> dict:
    """The report on nodes that show these identities, with pi3 in the inventory as well."""
    (folder / "known_nodes").write_text("".join(f"{n} {i}\n" for n, i in pins.items()))
    nodes = {
        name: node(
            said(**{**({} if name == "pi1" else OTHER), "identity": identity, **answers}),
            address=name, inventory=str(folder),
        )
        for name, identity in shown.items()
    }  # fmt: skip
    inventory = (["pi1", "", 22, ""], ["pi2", "", 22, ""], ["pi_C", "", 22, ""],
                 ["pi3", "", 22, "three"])  # fmt: skip
    return report_on(folder, inventory, only, **nodes)


@pytest.mark.parametrize(
    ("pins", "shown", "kind", "words"),
    [
        ({}, "", None, ""),
        ({"pi1": A, "pi2": B}, A, None, ""),
        ({"pi1": A}, "", "identity", "shows no identity"),
        ({"pi1": A}, "not the identity", "malformed", "answer to: identity"),
        ({"pi1": A}, f"{A}\n{B}", "malformed", "answer to: identity"),
        ({"pi1": A}, C, "identity", "sed -i '/^pi1 /d' {}/known_nodes"),
        ({"pi1": A, "pi2": B}, B, "exchanged", "not at its address: pi2 answers there, as its id"),
        ({"pi3": C}, C, "exchanged", "ansible_host of pi1 and pi3"),
        ({"pi1": A, "old": B}, B, "identity", "shows another identity"),
        ({"old": B}, B, "renamed", "sed -i 's/^old /pi1 /' {}/known_nodes"),
        ({"pi2": B}, C, "unpinned", "another controller"),
    ],
)
def test_pinned_and_shown(tmp_path: Path, pins, shown, kind, words) -> None:
    report = judged(tmp_path, pins, {"pi1": shown})
    assert found(report) == ([("pi1", kind)] if kind else [])
    assert words.format(tmp_path) in report["table"]
    assert report["stopped"] == (["pi1"] if kind not in (None, "unpinned") else [])
    if not report["stopped"]:
        assert re.fullmatch(shown or "[0-9a-f]{32}", report["identities"]["pi1"])


def test_two_exchanged_nodes_name_each_other(tmp_path: Path) -> None:
    report = judged(tmp_path, {"pi1": A, "pi2": B}, {"pi1": B, "pi2": A})
    assert found(report) == [("pi1", "exchanged"), ("pi2", "exchanged")]


@pytest.mark.parametrize("pins", [{}, {"pi1": A}, {"pi2": A}, {"pi1": A, "pi2": B}])
def test_a_copied_card_is_told_from_an_exchange(tmp_path: Path, pins: dict[str, str]) -> None:
    kinds = found(judged(tmp_path, pins, {"pi1": A, "pi2": A}))
    assert ("pi2", "same-identity") in kinds
    assert "exchanged" not in {kind for _, kind in kinds}


@pytest.mark.parametrize(("called", "other"), [("pi2", "pi2"), ("pi-c", "pi_C"), ("three", "pi3")])
def test_without_pins_the_host_name_tells(tmp_path: Path, called: str, other: str) -> None:
    report = judged(tmp_path, {}, {"pi1": A}, installed="yes", hostname=called)
    assert found(report) == [("pi1", "exchanged")]
    assert f"{other} answers there, as its host name shows" in report["table"]
    assert not found(judged(tmp_path, {}, {"pi1": ""}, hostname="pi2"))


def test_two_new_nodes_get_two_identities(tmp_path: Path) -> None:
    identities = judged(tmp_path, {}, {"pi1": "", "pi2": ""})["identities"]
    assert len(set(identities.values())) == 2


def test_a_reset_asks_for_no_more_than_the_identity(tmp_path: Path) -> None:
    report = judged(tmp_path, {"pi1": A}, {"pi1": B}, only=True, userland="armhf")
    assert found(report) == [("pi1", "identity")]


def test_damaged_pins_stop_all_in_words(tmp_path: Path) -> None:
    with pytest.raises(known_nodes.PinError, match=f"'pi1 no' pins no node.*{tmp_path}"):
        judged(tmp_path, {"pi1": "no"}, {"pi1": A})


def pin(file: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, file, *lines], capture_output=True, text=True)


def test_many_at_once_lose_no_pin(tmp_path: Path) -> None:
    """Half of them remove a pin; a reader sees a whole file at any time."""
    file, lines = tmp_path / "known_nodes", [f"pi{n} {n:032x}" for n in range(20)]
    assert pin(file, *lines[10:]).stdout.splitlines() == sorted(lines[10:])
    calls = [lines[n] if n < 10 else f"pi{n}" for n in range(20)]
    with ThreadPoolExecutor(20) as pool:
        writers = [pool.submit(pin, file, call) for call in calls]
        while not all(writer.done() for writer in writers):
            assert 0 < len(known_nodes.read(file)) <= 20
    assert {writer.result().returncode for writer in writers} == {0}
    assert sorted(file.read_text().splitlines()) == lines[:10]
    assert [path.name for path in tmp_path.iterdir()] == ["known_nodes"]
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("lines", [[f"pi1 {B}"], [f"pi2 {A}"], ["pi2 no"], [f"pi2 {B}", "pi3 x"]])
def test_a_pin_that_contradicts_changes_nothing(tmp_path: Path, lines: list[str]) -> None:
    file = tmp_path / "known_nodes"
    assert pin(file, f"pi1 {A}").returncode == 0
    refused = pin(file, *lines)
    assert refused.returncode == 1 and str(file) in refused.stderr
    assert "Traceback" not in refused.stderr and file.read_text() == f"pi1 {A}\n"


async def served(folder: Path, port_of: str) -> str:
    """What a run says of pi1, at whose port another host key is shown."""
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("shown", "pi1", "me")}
    keys["me"].write_private_key(folder / "me")
    server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[keys["shown"]])
    port = server.get_port()
    pinned = {f"[127.0.0.1]:{port}": "pi1", port_of: "shown"}
    (folder / "known_hosts").write_text("".join(
        f"{at} {keys[key].export_public_key().decode()}" for at, key in pinned.items()
    ))  # fmt: skip
    nodes = tuple(Node(f"pi{n}", "127.0.0.1", p, "o@lab.local") for n, p in ((1, port), (2, 9)))
    inventory = Inventory(folder, SENDER, folder / "me", "language", 0, nodes)
    address = SSHAddress("127.0.0.1", port, folder / "me", folder / "known_hosts")
    link = SSHLink("pi1", address, Pins(inventory))
    try:
        with pytest.raises(LinkError) as refused:
            await link.call("describe")
        return str(refused.value)
    finally:
        server.close()


def test_another_nodes_host_key_is_recognised(tmp_path: Path) -> None:
    says = asyncio.run(served(tmp_path, "[127.0.0.1]:9"))
    assert "is not at its address: pi2 answers there, as its host key shows" in says
    assert "ssh-keygen -R" not in says and f"-i {tmp_path} playbooks/preflight.yml" in says


def test_an_unknown_host_key_is_refused(tmp_path: Path) -> None:
    assert "its host key is not the one in" in asyncio.run(served(tmp_path, "nobody"))


class Gate(SSHLink):
    """A link whose node describes itself in these bytes."""

    said = b""

    async def call(self, command: str, data: bytes = b"") -> bytes:
        return self.said


@pytest.mark.parametrize(
    ("shown", "words"),
    [(f'"{B}"', "pi2 answers there"), ('""', "shows no identity"), ("[1]", "another identity")],
)
def test_a_run_refuses_what_is_not_pinned(tmp_path: Path, shown: str, words: str) -> None:
    (tmp_path / "known_nodes").write_text(f"pi1 {A}\npi2 {B}\n")
    nodes = tuple(Node(name, "127.0.0.1", 9, f"{name}@lab.local") for name in ("pi1", "pi2"))
    inventory = Inventory(tmp_path, SENDER, tmp_path / "key", "language", 0, nodes)
    address = SSHAddress("127.0.0.1", 9, tmp_path / "key", tmp_path / "known_hosts")
    gate = Gate("pi1", address, Pins(inventory))
    gate.said = f'{{"owner": "pi2@lab.local", "identity": {shown}}}'.encode()
    client = NodeClient(gate, SENDER, "pi1@lab.local", tmp_path / "box")
    with pytest.raises(LinkError, match=f"pi1 .*{words}"):
        asyncio.run(client.describe())
