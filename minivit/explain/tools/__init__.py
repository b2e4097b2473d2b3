"""What uses the chapters of `explain`: symmetry theorems, attention reports, studies of runs, and plots."""
