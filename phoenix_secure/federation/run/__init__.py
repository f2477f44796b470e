"""One run on the disk: folder, checkpoints, evidence, summary, plan, trackers."""
