"""Join standard input and output to a Unix socket until the worker behind it ends.

Run by the gate as a file, for as long as a run lasts: it imports next to nothing.
"""

import os
import select
import socket
import sys

CHUNK = 1 << 18


def main() -> int:
    """Copy both ways; after the client's end of input the worker may still answer."""
    worker = socket.socket(socket.AF_UNIX)
    try:
        worker.connect(sys.argv[1])
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
