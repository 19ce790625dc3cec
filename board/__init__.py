"""Emulated boards: an image, a machine, our own playbooks, and what came of it."""
