"""What every network keeps, PyTorch and ONNX alike, tried before any work starts.

It takes inputs (N, *shape) and gives outputs (N, classes); a row alone is answered as it is among others; the same
question gets the same answer twice; its input stays as it was. A network that breaks this would be published with
answers that depend on what else is asked.
"""

import copy

import torch
from torch import nn

from compressors.progress import first_line
from protos.errors import UsageError

ROWS = 4
TOLERANCE = 1e-3
"""How much of the largest output two answers to one question may differ: kernels for other batches round otherwise."""


def check(network: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Raises `UsageError`, one line, where `network`, in evaluation mode, breaks the contract."""
    generator, wanted = torch.Generator().manual_seed(0), "x".join(map(str, shape))
    levels = torch.arange(1.0, ROWS + 1).reshape(ROWS, *(1 for _ in shape))
    inputs = torch.randn(ROWS, *shape, generator=generator) * levels  # rows so unlike show in each other's answers
    try:
        answers = _answer(network, inputs)
        again = _answer(network, inputs)
        alone = torch.cat([_answer(network, row[None]) for row in inputs])
    except UsageError:
        raise
    except Exception as error:  # a user's network fails in its own way
        raise UsageError(f"the network takes no input of {wanted}: {first_line(error)}") from None
    if answers.ndim != 2 or len(answers) != ROWS:
        got = list(answers.shape)
        raise UsageError(f"got {got} from the network for {ROWS} inputs of {wanted}, expected [{ROWS}, classes]")
    if answers.shape[1] != classes:
        raise UsageError(f"the network tells {answers.shape[1]} classes apart, the data has {classes}")
    if not torch.isfinite(answers).all():
        raise UsageError(f"got answers from the network that are not finite for inputs of {wanted}, expected numbers")
    if not _equal(answers, again):
        raise UsageError(
            "the network answers the same inputs otherwise the second time, expected the same answer:"
            " is there a dropout or other randomness that stays on in evaluation mode?"
        )
    if not _equal(answers, alone) and not _is_rounding(network, inputs):
        raise UsageError(
            "the network answers a row otherwise alone than among others, expected the same answer:"
            " is there a batch norm without running statistics, or another sum over the batch?"
        )


def _is_rounding(network: nn.Module, inputs: torch.Tensor) -> bool:
    """Says whether rows answer alike in double precision: then it is rounding that the network makes so large."""
    try:
        exact = copy.deepcopy(network).double()
        return _equal(
            _answer(exact, inputs.double()), torch.cat([_answer(exact, row[None].double()) for row in inputs])
        )
    except Exception:  # a network that computes in single precision alone, such as an ONNX graph
        return False


def _answer(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    given = inputs.clone()
    with torch.no_grad():
        answer = network(given)
    if not torch.equal(given, inputs):
        raise UsageError("the network's forward writes into its input, expected it to leave its input as it was")
    if not isinstance(answer, torch.Tensor):
        raise UsageError(f"got a {type(answer).__name__} from the network, expected a tensor (N, classes)")
    return answer


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = float(one.abs().max())
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=TOLERANCE * scale)
