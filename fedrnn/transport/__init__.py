"""How messages travel: SSH, sockets and Flower's Grid; no torch."""
