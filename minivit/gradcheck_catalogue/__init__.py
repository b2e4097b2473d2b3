"""Checks of this project's own gradients: a catalogue of every op, layer and model, and the run over it."""
