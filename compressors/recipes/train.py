"""Training and fine-tuning: SGD with a one-cycle learning rate, optionally guided by a teacher.

Augmentation is a random shift and, where it keeps the class, a mirror image. After each epoch a checkpoint
is written, and a training that was interrupted goes on from it with the same result: the order of the
images and their augmentation follow from the seed and the epoch alone. What pruning has set to zero stays zero.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.lr_scheduler import OneCycleLR

from compressors.data.datasets import Dataset
from compressors.progress import say, track
from compressors.recipes.element_pruning import PruningMask
from compressors.recipes.feature_distillation import FeatureDistillation
from compressors.recipes.steps import Fit
from protos.support import atomic
from protos.support.machine import available_cores

DISTILLATION_TEMPERATURE = 4.0
"""Hinton et al. 2015 (https://arxiv.org/abs/1503.02531) use 2 to 5 for networks of this size."""

Teacher = Callable[[torch.Tensor], torch.Tensor]
"""Inputs (N, 3, H, W) to logits (N, classes)."""

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
    learned = [*network.parameters(), *(guide.parameters() if guide else ())]
    optimizer = torch.optim.SGD(learned, how.learning_rate, how.momentum, weight_decay=how.weight_decay, nesterov=True)
    steps = -(-len(data.train) // how.batch)
    schedule = OneCycleLR(optimizer, how.learning_rate, steps * how.epochs)
    stateful: _Stateful = {"network": network, "optimizer": optimizer, "schedule": schedule}
    if guide:
        stateful["guide"] = guide
    mask, bfloat16 = PruningMask(network), torch.cpu._is_avx512_bf16_supported()
    attention = SDPBackend.MATH  # the fused one takes twice as long, most of it backwards
    for epoch in range(_resume(checkpoint, stateful), how.epochs):
        start, total = time.perf_counter(), 0.0
        network.train()
        for inputs, labels in track(_batches(data, how, seed, epoch), steps, f"epoch {epoch + 1}/{how.epochs}"):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16), sdpa_kernel(attention):
                loss = _loss(network, inputs, labels, how, teacher, guide)
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


def _loss(
    network: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    how: Fit,
    teacher: Teacher | None,
    guide: FeatureDistillation | None,
) -> torch.Tensor:
    logits = network(inputs).float()
    loss = functional.cross_entropy(logits, labels)
    if teacher is None or (how.distillation == 0 and guide is None):
        return loss
    with torch.no_grad():
        taught = teacher(inputs).float()
    if how.distillation > 0:
        loss = (1 - how.distillation) * loss + how.distillation * _divergence(logits, taught)
    return loss + guide.loss() if guide else loss


def _divergence(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Returns how far the student's soft labels are from the teacher's, a scalar."""
    soft = functional.log_softmax(taught / DISTILLATION_TEMPERATURE, 1)
    student = functional.log_softmax(logits / DISTILLATION_TEMPERATURE, 1)
    return DISTILLATION_TEMPERATURE**2 * functional.kl_div(student, soft, reduction="batchmean", log_target=True)


def _batches(data: Dataset, how: Fit, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    for chosen in torch.randperm(len(data.train), generator=generator).split(how.batch):
        batch = data.train.take(chosen.numpy())
        inputs = _augment(torch.from_numpy(data.inputs(batch)), how, generator)
        yield inputs.contiguous(memory_format=torch.channels_last), torch.from_numpy(batch.labels)


def _augment(inputs: torch.Tensor, how: Fit, generator: torch.Generator) -> torch.Tensor:
    """Moves each image of (N, 3, H, W) on its own, by gathering shifted rows and columns, and mirrors half of them."""
    count, _, height, width = inputs.shape
    padded = functional.pad(inputs, [how.shift] * 4)
    down, right = torch.randint(0, 2 * how.shift + 1, (2, count), generator=generator)
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    if how.flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _resume(checkpoint: Path, stateful: _Stateful) -> int:
    """Loads what an interrupted training left behind; returns the number of epochs it had finished."""
    if not checkpoint.is_file():
        return 0
    saved = torch.load(checkpoint, weights_only=True)
    for name, part in stateful.items():
        part.load_state_dict(saved[name])
    say(f"  resumed after epoch {saved['epochs']}")
    return int(saved["epochs"])
