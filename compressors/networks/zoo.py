"""Networks: how to make one, how to bring one back from its weights, and how large it is.

A pruned network is stored as its weights alone. Their shapes say how wide each layer was left, so that
neither the pruning nor a pickled object is needed to bring it back.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compressors.export.exporters import EXPORTERS
from compressors.networks import onnx_network, plain, scrfd, small_cnns, user_network
from compressors.networks.layers import with_plain_weights
from compressors.networks.onnx_network import OnnxNetwork
from compressors.networks.torchvision import torchvision
from protos.manifest import Decoding, Network, RuntimeName


def _vgg19(classes: int) -> nn.Module:
    """torchvision's VGG19 layers with batch norm under a head for 32x32: 512-4096-4096-classes, 39 M parameters."""
    vgg = torchvision.models.vgg
    head: list[nn.Module] = []
    for inputs in (512, 4096):
        head += [nn.Linear(inputs, 4096), nn.ReLU(), nn.Dropout()]
    features = vgg.make_layers(vgg.cfgs["E"], batch_norm=True)
    return nn.Sequential(features, nn.Flatten(), *head, nn.Linear(4096, classes))


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet18": lambda classes: torchvision.models.resnet18(num_classes=classes),
    "resnet34": lambda classes: torchvision.models.resnet34(num_classes=classes),
    "resnet50": lambda classes: torchvision.models.resnet50(num_classes=classes),
    "vgg19": _vgg19,
    "mobilenet_v2": lambda classes: torchvision.models.mobilenet_v2(num_classes=classes),
    "vit_b_16": lambda classes: torchvision.models.vit_b_16(num_classes=classes),
    # At a size that trains on a few cores: 32x32 in 64 patches, 0.5 M parameters.
    "vit_tiny": lambda classes: torchvision.models.VisionTransformer(
        image_size=32, patch_size=4, num_layers=6, num_heads=4, hidden_dim=96, mlp_dim=192, num_classes=classes
    ),
    "plain_cnn": small_cnns.plain,
    "depthwise_cnn": small_cnns.depthwise_pointwise,
    "grouped_cnn": small_cnns.grouped,
    "scrfd_500m_kps": scrfd.scrfd_500m_kps,
    "scrfd_500m_boxes": lambda classes: scrfd.scrfd_500m_kps(classes, keypoints=0),  # for data without key points
    "scrfd_10g_kps": scrfd.scrfd_10g_kps,
    onnx_network.NAME: lambda classes: OnnxNetwork(),
}
"""Name to factory: number of classes to an untrained network. Classifiers take 32x32, but vit_b_16 224x224; detectors
take sides that are multiples of 32."""


DECODINGS = {
    "scrfd_500m_kps": Decoding("scrfd", keypoints=5),
    "scrfd_500m_boxes": Decoding("scrfd"),
    "scrfd_10g_kps": Decoding("scrfd", keypoints=5),
}
"""How the outputs of our own detectors become boxes."""


def factory(name: str) -> Callable[[int], nn.Module]:
    """Returns the factory of that name: of `NETWORKS`, of `plain:`, or a user's own, `package.module:name`."""
    if plain.is_plain(name):
        return plain.factory(name)
    return NETWORKS[name] if name in NETWORKS else user_network.factory(name)


def identity(name: str) -> str:
    """Returns what stands for a network's code in keys: its name, with its file's hash if it is a user's own."""
    return name if name in NETWORKS or plain.is_plain(name) else f"{name} {user_network.code_sha256(name)}"


def refusal(name: str, runtime: RuntimeName) -> str | None:
    """Returns why `runtime` cannot run the network at all; None where it can."""
    needs_torch = name == onnx_network.NAME and not EXPORTERS[runtime].takes_onnx
    return "an ONNX graph brings no PyTorch network" if needs_torch else None


def create(name: str, classes: int, seed: int) -> nn.Module:
    """Makes an untrained network whose first weights follow from `seed`."""
    torch.manual_seed(seed)
    return factory(name)(classes)


def restore(name: str, classes: int, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Makes the network `name` with the layer widths and the values of `weights`, in evaluation mode."""
    network = with_plain_weights(factory(name)(classes))
    for path, module in network.named_modules():
        shape = weights[f"{path}.weight"].shape if f"{path}.weight" in weights else None
        if shape is not None and module.weight.shape != shape:
            _resize(module, shape)
    network.load_state_dict(dict(weights))
    return network.eval()


def measure(network: nn.Module, example: torch.Tensor) -> Network:
    """Counts parameters, those that are not zero, and multiply-accumulates for `example` (1, ...)."""
    if isinstance(network, OnnxNetwork):
        return network.size()
    parameters = [p.detach() for p in network.parameters()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(example)
    return Network(
        parameters=sum(p.numel() for p in parameters),
        nonzero_parameters=sum(int(torch.count_nonzero(p)) for p in parameters),
        macs=counter.get_total_flops() // 2,  # it counts a multiplication and an addition as two
    )


def _resize(module: nn.Module, shape: torch.Size) -> None:
    """Gives the parameters of a layer the sizes that go with a weight of `shape`; values are left undefined."""
    if isinstance(module, nn.Conv2d):
        if module.groups == module.in_channels == module.out_channels:
            module.groups = shape[0]
        module.out_channels, module.in_channels = shape[0], shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = shape[0]
        module.running_mean, module.running_var = torch.empty(shape), torch.empty(shape)
    if module.weight.shape != shape:
        module.weight = nn.Parameter(torch.empty(shape))
    if getattr(module, "bias", None) is not None:
        module.bias = nn.Parameter(torch.empty(shape[0]))
