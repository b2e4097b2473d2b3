"""Runs: the settings of a training, the folder that keeps it, and what is done with a trained run."""
