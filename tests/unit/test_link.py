"""The link over a real SSH connection, to a server in this process."""

import asyncio
from pathlib import Path

import asyncssh

from fedrnn.transport.link import SSHAddress, SSHLink


def answer(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Be a gate that is quicker than its caller: it is gone before it is written to."""
    process.stdout.write(b"done")
    process.exit(0)


async def ask(folder: Path, times: int) -> list[bytes]:
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("host", "user")}
    for name, key in keys.items():
        key.write_private_key(folder / name)
    keys["user"].write_public_key(folder / "authorized")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[keys["host"]], process_factory=answer,
        authorized_client_keys=str(folder / "authorized"), encoding=None,
    )  # fmt: skip
    port = server.get_port()
    public = keys["host"].export_public_key().decode()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    link = SSHLink("pi", SSHAddress("127.0.0.1", port, folder / "user", folder / "known_hosts"))
    try:
        return [await link.call("status", data) for data in (b"", b"more") for _ in range(times)]
    finally:
        await link.close()
        server.close()


def test_an_answer_that_comes_before_all_is_sent_is_an_answer(tmp_path: Path) -> None:
    assert set(asyncio.run(ask(tmp_path, 20))) == {b"done"}
