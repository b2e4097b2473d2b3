"""The project's own verification: a catalogue of every op, layer and model, and the run that checks their gradients."""
