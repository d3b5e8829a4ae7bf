"""What every split of a data set can do, whatever its task."""

from typing import Protocol, Self

from protos.tasks.task import Array, Arrays, Rows


class Split(Protocol):
    """Some images and what is true of them."""

    def __len__(self) -> int:
        """Counts the images."""

    def take(self, indices: Rows) -> Self:
        """Returns the images at `indices`."""

    @property
    def truth(self) -> Arrays:
        """What is true of the images, in the arrays of the task."""

    def as_sent(self) -> Array:
        """Returns the images as a client sends them: RGB pixels uint8 (N, H, W, 3), or files (N,) of `bytes`."""
