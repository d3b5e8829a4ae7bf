"""Training and fine-tuning: SGD with a one-cycle learning rate, optionally guided by a teacher.

The task has the images, their augmentation and the loss. After each epoch a checkpoint is written, and a training
that was interrupted goes on from it with the same result: the order of the images and their augmentation follow from
the seed and the epoch alone. What pruning has set to zero stays zero.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import OneCycleLR

from compressors.data.datasets import Dataset
from compressors.progress import first_line, say, track
from compressors.recipes.element_pruning import PruningMask
from compressors.recipes.feature_distillation import FeatureDistillation
from compressors.recipes.steps import Fit
from compressors.tasks.table import STUDIED
from compressors.tasks.task import Batch, Network
from protos.support import atomic
from protos.support.machine import available_cores

Taught = torch.Tensor | Sequence[torch.Tensor]
Teacher = Callable[[torch.Tensor], Taught]
"""Inputs (N, 3, H, W) to the output, or to several."""

_Stateful = dict[str, nn.Module | torch.optim.Optimizer | OneCycleLR]
"""What an interrupted training needs to go on, by its name in the checkpoint."""


def fit(
    network: nn.Module,
    data: Dataset,
    how: Fit,
    seed: int,
    checkpoint: Path,
    teacher: Teacher | None,
    guide: FeatureDistillation | None = None,
) -> None:
    """Trains `network` in place on the training split and leaves it in evaluation mode.

    An interrupted training goes on from `checkpoint`, a file that is removed at the end. Distillation needs
    a `teacher`, and so does a `guide`, the loss of its features.
    """
    torch.set_num_threads(available_cores())  # an adapter may have left it at its own count
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learned = _groups([*network.parameters(), *(guide.parameters() if guide else ())], how)
    optimizer = torch.optim.SGD(learned, how.learning_rate, how.momentum, weight_decay=how.weight_decay, nesterov=True)
    steps = -(-len(data.train) // how.batch)
    schedule = OneCycleLR(optimizer, how.learning_rate, steps * how.epochs, pct_start=how.warm_up)
    called = _compiled(network) if how.compiled else network
    stateful: _Stateful = {"network": network, "optimizer": optimizer, "schedule": schedule}
    if guide:
        stateful["guide"] = guide
    mask, bfloat16 = PruningMask(network), torch.cpu._is_avx512_bf16_supported()
    attention = SDPBackend.MATH  # the fused one takes twice as long, most of it backwards
    for epoch in range(_resume(checkpoint, stateful), how.epochs):
        start, total = time.perf_counter(), 0.0
        network.train()
        batches = STUDIED[data.task].batches(data, how, seed, epoch)
        for batch in track(batches, steps, f"epoch {epoch + 1}/{how.epochs}"):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), sdpa_kernel(attention):
                loss = _loss(called, batch, how, teacher, guide)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mask.reapply()
            schedule.step()
            total += loss.item()
        with atomic.new_file(checkpoint) as temporary:
            torch.save({"epochs": epoch + 1} | {name: part.state_dict() for name, part in stateful.items()}, temporary)
        seconds = time.perf_counter() - start
        say(f"  epoch {epoch + 1}/{how.epochs}: mean loss {total / steps:.3f}, {seconds:.1f} s")
    network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    checkpoint.unlink(missing_ok=True)


def _groups(parameters: Sequence[nn.Parameter], how: Fit) -> list[dict[str, object]]:
    """Returns the parameters as the optimizer takes them: what weight decay is to leave alone is a group of its own."""
    vectors = [parameter for parameter in parameters if parameter.dim() < 2 and not how.decay_biases]
    rest = [parameter for parameter in parameters if parameter.dim() >= 2 or how.decay_biases]
    return [{"params": rest}, *([{"params": vectors, "weight_decay": 0.0}] if vectors else [])]


def _compiled(network: nn.Module) -> Network:
    """Returns what calls the network compiled; as it is, with a note, where no C++ compiler is there."""
    try:
        torch._inductor.cpp_builder.get_cpp_compiler()
    except Exception as error:  # its own class for each way to have none
        say(f"  not compiled, no C++ compiler: {first_line(error)}")
        return network
    torch._dynamo.reset()  # after 8 compilations of one class, earlier networks' included, it would give up
    return torch.compile(network, dynamic=False)  # two shapes at most: the last batch may be smaller


def _loss(
    network: Network,
    batch: Batch,
    how: Fit,
    teacher: Teacher | None,
    guide: FeatureDistillation | None,
) -> torch.Tensor:
    taught: Taught | None = None
    if teacher is not None and (how.distillation > 0 or guide is not None):
        with torch.no_grad():
            taught = teacher(batch.inputs)
    loss = batch.loss(network, taught)
    return loss + guide.loss() if guide else loss


def _resume(checkpoint: Path, stateful: _Stateful) -> int:
    """Loads what an interrupted training left behind; returns the number of epochs it had finished."""
    if not checkpoint.is_file():
        return 0
    saved = torch.load(checkpoint, weights_only=True)
    for name, part in stateful.items():
        part.load_state_dict(saved[name])
    say(f"  resumed after epoch {saved['epochs']}")
    return int(saved["epochs"])
