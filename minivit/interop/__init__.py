"""Weights in and out: other libraries' names and layouts."""
