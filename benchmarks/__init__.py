"""Programs that measure blkbox against named peers, side by side in one run."""
