"""Starts the Space: `python app.py`, or `make space` in a clone. What it shows is in `page.py`."""

import os
import signal
import sys
import tempfile
from pathlib import Path


# Before the libraries are imported: nothing is reported to anybody or looked up, and a visit gets one core.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


# Every process that reads a recording imports this file, too, and needs no page.
if __name__ == "__main__":
    os.chdir(Path(__file__).parent)  # where the process from which readers are forked finds reader.py
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="neuript-space-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = f"{folder}/uploads"
        from page import launch

        launch()
