"""The folders of a replay's images: one for each run, and saved ones that runs start from."""

import os
import shutil
from pathlib import Path

from tracer.disk import sparse


class Folders:
    """Makes and removes folders in ``work``. With ``keep``, every run's folder stays.

    A run that starts from saved images, or saves its own, always has the same path: an image may
    refer to another by its absolute path. Such a run finds there what the run before it has left,
    and only what differs from the saved images is written again.
    """

    def __init__(self, work: Path, *, keep: bool) -> None:
        self._work = work
        self._keep = keep
        self._restarted = work / "restarted"

    def new(self, label: str, *, saves: bool) -> Path:
        """Make an empty folder for a run on fresh images."""
        folder = self._restarted if saves else self._free(label)
        if saves:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def restore(self, saved: Path) -> Path:
        """Return the folder of a run that starts from saved images, with these images."""
        folder = self._restarted
        folder.mkdir(exist_ok=True)
        wanted = {path.relative_to(saved) for path in saved.rglob("*")}
        for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before it
            if path.relative_to(folder) not in wanted or path.is_symlink():
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for path in sorted(saved.rglob("*")):
            target = folder / path.relative_to(saved)
            if path.is_symlink():
                os.symlink(os.readlink(path), target)
            elif path.is_dir():
                target.mkdir(exist_ok=True)
            elif target.exists():
                sparse.match(str(path), str(target))
            else:
                sparse.copy(str(path), str(target))
        return folder

    def save(self, folder: Path, label: str) -> Path:
        """Keep a run's images for other runs to start from. Return where they are."""
        kept = self._work / f"{label}-saved"
        shutil.rmtree(kept, ignore_errors=True)
        folder.rename(kept)
        return kept

    def done(self, folder: Path, label: str) -> None:
        """End the use of a run's folder, unless it was saved."""
        if not folder.exists():
            return
        if self._keep and folder == self._restarted:
            folder.rename(self._free(label))
        elif not self._keep and folder != self._restarted:
            shutil.rmtree(folder, ignore_errors=True)

    def _free(self, label: str) -> Path:
        """Return a path for a folder of this name that does not exist yet."""
        folder, number = self._work / label, 1
        while folder.exists():
            number += 1
            folder = self._work / f"{label}-{number}"
        return folder
