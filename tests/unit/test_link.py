"""The link over a real SSH connection, to a server in this process."""

import asyncio
from pathlib import Path

import asyncssh
import pytest

from fedrnn.transport.link import LinkError, SSHAddress, SSHLink


def answer(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Be a gate that is quicker than its caller: it is gone before it is written to."""
    process.stdout.write(b"done")
    process.exit(0)


class Way(asyncssh.SSHServer):
    """A host that one goes through."""

    through = 0

    def connection_requested(self, *_: object) -> bool:
        """Let everything through, and count it."""
        Way.through += 1
        return True


async def ask(folder: Path, times: int, way: bool = False) -> list[bytes]:
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "user")}
    for name, key in keys.items():
        key.write_private_key(folder / name)
    keys["user"].write_public_key(folder / "authorized")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[keys["host"]], process_factory=answer,
        authorized_client_keys=str(folder / "authorized"), encoding=None, server_factory=Way,
    )  # fmt: skip
    port = server.get_port()
    public = keys["host"].export_public_key().decode()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    jump = f"127.0.0.1:{port}" if way else ""
    address = SSHAddress("127.0.0.1", port, folder / "user", folder / "known_hosts", jump=jump)
    link = SSHLink("pi", address)
    try:
        return [await link.call("status", data) for data in (b"", b"more") for _ in range(times)]
    finally:
        await link.close()
        server.close()


def test_an_answer_that_comes_before_all_is_sent_is_an_answer(tmp_path: Path) -> None:
    assert set(asyncio.run(ask(tmp_path, 20))) == {b"done"}


def test_a_node_behind_another_host_is_reached_through_it(tmp_path: Path, monkeypatch) -> None:
    # For the host on the way, the user's own key and known hosts count.
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").symlink_to(tmp_path / "user")
    (tmp_path / ".ssh" / "known_hosts").symlink_to(tmp_path / "known_hosts")
    before = Way.through
    assert asyncio.run(ask(tmp_path, 1, way=True)) == [b"done", b"done"]
    assert Way.through == before + 1


@pytest.mark.parametrize("line", [b"[127.0.0.1]:1\n", b"@foo a b c\n", b"\xff\xfe\n"])
def test_a_damaged_known_hosts_is_named(tmp_path: Path, line: bytes) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_bytes(line)
    (tmp_path / "key").touch()
    link = SSHLink("pi", SSHAddress("127.0.0.1", 1, tmp_path / "key", known_hosts))
    with pytest.raises(LinkError, match=rf"pi .*{known_hosts} cannot be read: .*Mend or remove"):
        asyncio.run(link.call("status"))
