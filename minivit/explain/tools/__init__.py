"""Behind the chapters of `explain`: studies, theorems, attention reports, and plots."""
