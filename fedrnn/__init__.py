"""Federated recurrent networks on a cluster of Raspberry Pis.

import fedrnn

with fedrnn.connect() as nodes:
    nodes["pi1"].datasets[0].mock_files
    nodes["pi1"].submit_python_job("count.py", "count-1")
    nodes["pi1"].wait("count-1").output_paths
"""

import os
from typing import Any

# Flower reports to its maker and looks for updates unless told otherwise. It reads this when it is
# imported, so it stands in the one file that comes before any import of Flower.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")


def connect(*arguments: Any, **options: Any) -> Any:
    """Return the nodes' PySyft data sets and jobs: see `fedrnn.notebook.connect`."""
    # Imported late: a job and a node carry this file, and not the notebook.
    from fedrnn.notebook import connect as real

    return real(*arguments, **options)
