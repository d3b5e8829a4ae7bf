"""What an unmodified `tritonclient.grpc` gets from a server, as one JSON document. Run as a process of its own:

    python -m tests.deploy.ray.tritonclient_calls HOST:PORT MODEL golden.npz

Two servers of the same variants give the same document; the parts come from `tests.e2e.tritonclient_session`.
"""

import json
import sys

import numpy as np
from tritonclient.grpc import InferenceServerClient

from tests.e2e.tritonclient_session import classes, health, image, image_labels, infer, status, statuses, streamed


def main(address: str, model: str, golden: str) -> None:
    with np.load(golden) as arrays:
        x = arrays["input.input"]
    with InferenceServerClient(address) as client:
        metadata = client.get_model_metadata(model, as_json=True)
        served = [name for name in metadata["versions"] if client.is_model_ready(model, name)]
        document = {
            "liveness": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model)],
            "server metadata": client.get_server_metadata(as_json=True),
            "model metadata": metadata,
            "readiness of variants": served,
            "answers": {name: infer(client, model, name, x) for name in ["", *served]},
            "bytes": client.infer(model, [image(x)]).as_numpy("logits").tobytes().hex(),
            "classes": {count: classes(client, model, x, count) for count in (1, 3, 100)},
            "images": image_labels(client, model),
            "errors": statuses(client, model, x),
            "variants that cannot serve": {
                name: status(lambda name=name: client.infer(model, [image(x)], name))
                for name in metadata["versions"]
                if name not in served
            },
            "model configuration": client.get_model_config(model, as_json=True)["config"],
            "repository index": client.get_model_repository_index(as_json=True),
            "repository control": [
                status(lambda: client.load_model(model)),
                status(lambda: client.unload_model(model)),
            ],
            "health": health(address, model, served, ()),
            "stream": streamed(client, model, served, x),
        }
        stats = client.get_inference_statistics(model, as_json=True)["model_stats"]
        document["statistics"] = {each["version"]: each.get("inference_count") for each in stats}
    print(json.dumps(document))


if __name__ == "__main__":
    main(*sys.argv[1:])
