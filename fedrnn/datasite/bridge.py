"""Join standard input and output to a Unix socket until the worker behind it ends.

Run by the gate as a file, for as long as a run lasts: it imports next to nothing.
"""

import os
import select
import socket
import stat
import struct
import sys

CHUNK = 1 << 18


def connect(path: str) -> socket.socket:
    """Return a socket to the worker, and to nobody else.

    The job may lay what it likes into its folder, so it is asked who listens: the account that
    systemd gave the folder to. Raises OSError.
    """
    folder = os.lstat(os.path.dirname(path))  # noqa: PTH120 - pathlib costs memory for a whole run
    if not (stat.S_ISDIR(folder.st_mode) and stat.S_ISSOCK(os.lstat(path).st_mode)):
        raise OSError("there is no socket of a job")
    worker = socket.socket(socket.AF_UNIX)
    worker.connect(path)
    peer = worker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", peer)[1] != folder.st_uid:
        raise OSError("another account than the job's listens there")
    return worker


def main() -> int:
    """Copy both ways; after the client's end of input the worker may still answer."""
    try:
        worker = connect(sys.argv[1])
    except OSError as error:
        print(f"refused: the worker does not answer: {error}", file=sys.stderr)
        return 2
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(worker, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != 0:
                data = worker.recv(CHUNK)
                if not data:
                    return 0
                view = memoryview(data)
                while view:
                    view = view[os.write(1, view) :]
            elif data := os.read(0, CHUNK):
                worker.sendall(data)
            else:
                worker.shutdown(socket.SHUT_WR)
                poll.unregister(0)


if __name__ == "__main__":
    sys.exit(main())
