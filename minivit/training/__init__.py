"""Training: one step (`trainer`), the optimisers and the schedule, many epochs (`loop`), settings, augmentation,
evaluation."""
