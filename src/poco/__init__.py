"""poco: a learned action-chunk policy on a real robot arm, improved where it runs."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.31 reports its use to its maker, from threads of its own, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
