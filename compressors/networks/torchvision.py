"""torchvision, also beside a CPU-only build of torch. The one place that imports it.

torchvision's compiled operators can link CUDA libraries that a CPU-only torch does not bring; its import
then fails with "operator torchvision::nms does not exist". Nothing here detects objects, so declaring the
schemas of the two operators is enough. Where torchvision loads as it should, this changes nothing.
Source: https://github.com/pytorch/vision/issues/8951
"""

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

try:
    import torchvision
except RuntimeError as failure:
    if "torchvision::nms" not in str(failure):
        raise
    _library = torch.library.Library("torchvision", "FRAGMENT")  # kept: its operators live as long as it does
    for _operator in _OPERATORS:
        _library.define(_operator)
    import torchvision

__all__ = ["torchvision"]
