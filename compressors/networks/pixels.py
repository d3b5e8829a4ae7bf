"""A network that takes pixels: what scales and normalizes them is folded into its first convolution.

    y = conv((x / 255 - mean) / std)  =  conv'(x) + what the mean takes off,  with weights divided by 255 std

Where the convolution pads with zeros, which are the mean, less is taken off at the border: then what is added is a map
of one value for each place, else the convolution's bias. A batch normalization behind it is folded in before.
"""

import copy
from collections import OrderedDict

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from compressors.networks.layers import output_names
from protos.manifest import Preprocessing
from protos.preprocessing import normalise

TOLERANCE = 1e-3
"""How much of the largest output the folded network may differ from what was folded."""


class Floats(nn.Module):
    """Makes pixels floats: a layer of its own, which is never quantized."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (N, H, W, 3) to (N, 3, H, W)."""
        return pixels.permute(0, 3, 1, 2).to(self.kind)


class PixelInput(nn.Module):
    """Gives a network that takes floats from 0 to 255 the pixels uint8 (N, H, W, 3) that it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.floats, self.network = Floats(next(network.parameters()).dtype), network
        self.outputs = output_names(network)
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Returns the network's outputs."""
        outputs: torch.Tensor | tuple[torch.Tensor, ...] = self.network(self.floats(pixels))
        return outputs

    def on_planes(self) -> nn.Module:
        """Returns the same for floats (N, 3, H, W) from 0 to 255, its layers by the same names."""
        network = nn.Sequential(OrderedDict(network=self.network)).eval()
        network.outputs = self.outputs  # type: ignore[assignment]
        return network


class Shifted(nn.Module):
    """A convolution, and a map (1, C, H, W) that is added to what it gives."""

    def __init__(self, convolution: nn.Conv2d, added: torch.Tensor) -> None:
        super().__init__()
        self.convolution = convolution
        self.added: torch.Tensor
        self.register_buffer("added", added)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, C, H', W')."""
        convolved: torch.Tensor = self.convolution(x)
        return convolved + self.added


def fold_input(network: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """Returns `network`, in evaluation mode, behind what takes the pixels that `preprocessing` makes its inputs of.

    Raises `ValueError` where its first layer is no convolution of the whole input.
    """
    folded = copy.deepcopy(network).eval()
    size = (2, *preprocessing.resize, 3)
    pixels = torch.randint(256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = torch.from_numpy(normalise(pixels.numpy(), preprocessing))
    path, norm = _first_layers(folded, inputs)
    convolution = folded.get_submodule(path)
    assert isinstance(convolution, nn.Conv2d)
    if norm is not None:
        behind = folded.get_submodule(norm)
        assert isinstance(behind, nn.BatchNorm2d)
        convolution = fuse_conv_bn_eval(convolution, behind)
        folded.set_submodule(norm, nn.Identity())
    folded.set_submodule(path, _folded(convolution, preprocessing))
    made = PixelInput(folded)
    with torch.inference_mode():
        wanted, got = (each if isinstance(each, tuple) else (each,) for each in (network(inputs), made(pixels)))
    for one, other in zip(wanted, got, strict=True):
        if (one - other).abs().max() > TOLERANCE * one.abs().max():
            raise ValueError("fold-input: the network uses its input elsewhere than in its first convolution, too")
    return made


def _first_layers(network: nn.Module, inputs: torch.Tensor) -> tuple[str, str | None]:
    """Returns the paths of the convolution of the input, and of the batch normalization behind it, if there is one."""
    takers, answers = list[tuple[str, nn.Module]](), dict[str, torch.Tensor]()
    norms = list[tuple[str, torch.Tensor]]()

    def watch(path: str, module: nn.Module) -> None:
        def hook(module: nn.Module, given: tuple[object, ...], answer: object) -> None:
            if given and given[0] is inputs:
                takers.append((path, module))
                assert isinstance(answer, torch.Tensor)
                answers[path] = answer
            elif isinstance(module, nn.BatchNorm2d) and any(given[0] is answer for answer in answers.values()):
                norms.append((path, answers[takers[0][0]]))

        handles.append(module.register_forward_hook(hook))

    handles = list[torch.utils.hooks.RemovableHandle]()
    for path, module in network.named_modules():
        if not list(module.children()):
            watch(path, module)
    with torch.inference_mode():
        network(inputs)
    for handle in handles:
        handle.remove()
    first = takers[0][1] if len(takers) == 1 else None
    if not isinstance(first, nn.Conv2d) or first.groups != 1 or first.padding_mode != "zeros":
        named = ", ".join(type(module).__name__ for _, module in takers) or "no layer"
        raise ValueError(
            f"fold-input: got {named} on the network's input, expected one convolution that pads with zeros"
        )
    return takers[0][0], norms[0][0] if len(norms) == 1 else None


def _folded(convolution: nn.Conv2d, preprocessing: Preprocessing) -> nn.Module:
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    bias = convolution.bias
    made = nn.Conv2d(
        3,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        convolution.dilation,  # type: ignore[arg-type]
    )
    with torch.no_grad():
        made.weight.copy_(convolution.weight / (255 * std))
        taken_off = (-mean / std).expand(1, 3, *preprocessing.resize)
        added = nn.functional.conv2d(
            taken_off, convolution.weight, bias, convolution.stride, convolution.padding, convolution.dilation
        )
        if bool((added == added[..., :1, :1]).all()) or not mean.any():
            made.bias = nn.Parameter(added[0, :, 0, 0].clone())
            return made
        made.bias = None
        return Shifted(made, added)
