"""Training: the optimiser and its schedule, the Trainer (one step), the loop (many), and the folder in which a run lives."""
