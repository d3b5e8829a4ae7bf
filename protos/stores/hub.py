"""A model of Hugging Face's Hub, by huggingface_hub: read as a file system, written by one commit a push.

https://huggingface.co/docs/huggingface_hub/guides/hf_file_system
"""

from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from protos.stores.filesystem import Filesystem


class Hub(Filesystem):
    """One repository of the Hub, at a branch or tag."""

    def __init__(self, url: str) -> None:
        disable_progress_bars()
        super().__init__(url)
        self._changes: list[CommitOperationAdd | CommitOperationDelete] = []

    def send(self, path: str, source: Path) -> None:
        """Sends one file with the next commit."""
        self._changes.append(CommitOperationAdd(self._within(path), source))

    def remove(self, path: str) -> None:
        """Removes a file by the next commit."""
        self._changes.append(CommitOperationDelete(self._within(path)))

    def finish(self) -> None:
        """Commits, if there is something to commit; a reader sees all of it or nothing."""
        place = self._files.resolve_path(self._root)
        if self._changes:
            HfApi().create_commit(
                place.repo_id, self._changes, commit_message="pareto-compress push", revision=place.revision
            )
        self._changes = []

    def _digest(self, info: dict[str, Any]) -> str | None:
        """Returns the SHA-256 of a large file, the id of a small one's blob in Git."""
        return f"sha256:{info['lfs']['sha256']}" if info["lfs"] else f"git:{info['blob_id']}"

    def _within(self, path: str) -> str:
        return str(self._files.resolve_path(self._root + path).path_in_repo)
