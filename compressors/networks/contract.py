"""What every network keeps, PyTorch and ONNX alike, tried before any work starts.

It takes inputs (N, *shape) and gives one output (N, ...), or several; a row alone is answered as it is among others;
the same question gets the same answer twice; its input stays as it was. A network that breaks this would be published
with answers that depend on what else is asked. What the outputs have to be, its task says.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn

from compressors.networks.layers import output_names
from compressors.progress import first_line
from protos.errors import UsageError
from protos.tasks.task import Array

Outputs = tuple[torch.Tensor, ...]

ROWS = 4
TOLERANCE = 1e-3
"""How much of the largest output two answers to one question may differ: kernels for other batches round otherwise."""


def check(network: nn.Module, shape: tuple[int, ...], fault: Callable[[dict[str, Array]], str | None]) -> None:
    """Raises `UsageError`, one line, where `network`, in evaluation mode, breaks the contract.

    `fault` says what is wrong with its outputs by name, None where nothing is.
    """
    generator, wanted = torch.Generator().manual_seed(0), "x".join(map(str, shape))
    levels = torch.arange(1.0, ROWS + 1).reshape(ROWS, *(1 for _ in shape))
    inputs = torch.randn(ROWS, *shape, generator=generator) * levels  # rows so unlike show in each other's answers
    try:
        answers = _answer(network, inputs)
        again = _answer(network, inputs)
        alone = _alone(network, inputs)
    except UsageError:
        raise
    except Exception as error:  # a user's network fails in its own way
        raise UsageError(f"the network takes no input of {wanted}: {first_line(error)}") from None
    if any(answer.shape[:1] != (ROWS,) for answer in answers):
        got = [list(answer.shape) for answer in answers]
        raise UsageError(f"got outputs {got} from the network for {ROWS} inputs of {wanted}, expected {ROWS} rows")
    if problem := fault({n: a.numpy() for n, a in zip(output_names(network), answers, strict=True)}):
        raise UsageError(problem)
    if not all(torch.isfinite(answer).all() for answer in answers):
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
        return _equal(_answer(exact, inputs.double()), _alone(exact, inputs.double()))
    except Exception:  # a network that computes in single precision alone, such as an ONNX graph
        return False


def _alone(network: nn.Module, inputs: torch.Tensor) -> Outputs:
    """Returns the outputs for each row by itself, joined."""
    return tuple(torch.cat(parts) for parts in zip(*(_answer(network, row[None]) for row in inputs), strict=True))


def _answer(network: nn.Module, inputs: torch.Tensor) -> Outputs:
    given = inputs.clone()
    with torch.no_grad():
        answer = network(given)
    if not torch.equal(given, inputs):
        raise UsageError("the network's forward writes into its input, expected it to leave its input as it was")
    names = output_names(network)
    answers = answer if isinstance(answer, tuple | list) and len(names) > 1 else (answer,)
    if len(answers) != len(names) or not all(isinstance(each, torch.Tensor) for each in answers):
        wanted = "a tensor (N, ...)" if len(names) == 1 else f"{len(names)} of them"
        raise UsageError(f"got a {type(answer).__name__} from the network, expected {wanted}")
    return tuple(answers)


def _equal(one: Outputs, other: Outputs) -> bool:
    return all(map(_close, one, other))


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = float(one.abs().max())
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=TOLERANCE * scale)
