"""What a training keeps on disk: checkpoints, the state to go on from, metrics."""
