"""Runs: `minivit.train`, the folder of a run, presets, fine-tuning, and what is done with a trained run."""
