"""Training: one step (`trainer`), optimisers, schedule, epochs (`loop`), settings, augmentation, evaluation."""
