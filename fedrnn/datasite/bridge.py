"""Hand this session's input and output to the worker behind a Unix socket, and wait for its end.

Run by the gate as a file. The worker then reads and writes sshd's own sockets: nothing of a round
passes through this process, which becomes a `cat` of one megabyte for as long as the run lasts.
"""

import os
import socket
import stat
import struct
import sys


def connect(path: str) -> socket.socket:
    """Return a socket to the worker, and to nobody else.

    The job may lay what it likes into its folder, so it is asked who listens: the account that
    systemd gave the folder to. Raises OSError.
    """
    folder = os.lstat(os.path.dirname(path))  # noqa: PTH120 - pathlib takes longer than all of this
    if not (stat.S_ISDIR(folder.st_mode) and stat.S_ISSOCK(os.lstat(path).st_mode)):
        raise OSError("there is no socket of a job")
    worker = socket.socket(socket.AF_UNIX)
    worker.connect(path)
    peer = worker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", peer)[1] != folder.st_uid:
        raise OSError("another account than the job's listens there")
    return worker


def main() -> int:
    """Pass descriptors 0 and 1 on; what the worker closes last tells sshd that it has ended."""
    try:
        worker = connect(sys.argv[1])
        socket.send_fds(worker, [b"\0"], [0, 1])
    except OSError as error:
        print(f"refused: the worker does not answer: {error}", file=sys.stderr)
        return 2
    os.dup2(worker.fileno(), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv("/bin/cat", ["cat"])


if __name__ == "__main__":
    sys.exit(main())
