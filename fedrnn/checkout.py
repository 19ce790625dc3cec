"""Where this checkout lies, and where it keeps what runs make."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs"
LATEST = RUNS / "latest"
"""A link to the last run that has a model."""
