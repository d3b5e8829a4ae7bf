"""What an unmodified `tritonclient.grpc` gets of a detector for a JPEG file, as one JSON document:

python tritonclient_detector.py HOST:PORT MODEL photo.jpg
"""

import json
import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException


def main(address: str, model: str, photo: str) -> None:
    content = np.array([Path(photo).read_bytes()], np.object_)
    image = InferInput("input", [1], "BYTES").set_data_from_numpy(content)
    with InferenceServerClient(address) as client:
        answer = client.infer(model, [image])
        both = client.infer(model, [image], parameters={"iou_threshold": 0.6})
        best = client.infer(model, [image], parameters={"score_threshold": 0.3, "max_detections": 1})
        raw = client.infer(model, [image], outputs=[InferRequestedOutput("score_8"), InferRequestedOutput("boxes")])
        try:
            client.infer(model, [image], parameters={"score_threshold": "0.3"})
        except InferenceServerException as error:
            refused = error.message()
    counts = [result.as_numpy("num_detections").tolist() for result in (answer, both, best)]
    shapes = [raw.as_numpy("score_8").shape, raw.as_numpy("boxes").shape, best.as_numpy("boxes").shape]
    boxes = answer.as_numpy("boxes")[0, : counts[0][0][0]].tolist()
    print(json.dumps({"boxes": boxes, "counts": counts, "shapes": shapes, "refused": refused}))


if __name__ == "__main__":
    main(*sys.argv[1:])
