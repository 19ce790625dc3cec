"""The network, its text and its data: torch, and no network traffic."""
