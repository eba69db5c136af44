"""What every test here needs: no library looks for a network."""

from __future__ import annotations

import os
import tempfile

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "YOLO_OFFLINE": "true"}
# Ultralytics writes its settings where it is imported first.
_SETTINGS = tempfile.TemporaryDirectory(prefix="ultralytics")
os.environ.setdefault("YOLO_CONFIG_DIR", _SETTINGS.name)
