"""What is used if nothing else is named: presets of the data sets, the default model and the folder of a run."""
