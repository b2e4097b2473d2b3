"""Training: the optimiser and its schedule, augmentation, the Trainer (one step), the loop (many), the folder in which a run lives, and
how a new one starts: from a preset, or from a run that is fine-tuned."""
