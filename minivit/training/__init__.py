"""Training: the optimiser and its schedule, the Trainer (one step), the loop (many), the folder in which a run lives, and its report."""
