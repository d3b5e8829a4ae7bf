"""Triton's own client, in its own process, sends a detector a JPEG file and gets boxes in its pixels."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support import toy_detector
from tests.support.serving import serving

SCRIPT = Path(__file__).with_name("tritonclient_detector.py")


@pytest.mark.usefixtures("front")
def test_it_sends_a_jpeg_and_gets_boxes(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[16:32, 32:48] = (255, 204, 0)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95)
    with serving(toy_detector.repository(tmp_path / "models")) as server:
        arguments = [server.grpc_address, "detector", str(tmp_path / "photo.jpg")]
        done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    session = json.loads(done.stdout)
    assert session["boxes"] == [[32, 16, 48, 32]]
    assert session["counts"] == [[[1]], [[2]], [[1]]]
    assert session["shapes"] == [[1, 128, 1], [1, 5, 4], [1, 1, 4]]
    assert "parameter 'score_threshold': got '0.3' as string_param" in session["refused"]
