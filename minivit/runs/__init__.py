"""Runs: `minivit.train`, the folder that keeps a training, presets, fine-tuning, and evaluation and prediction with a
trained run."""
