"""Other libraries' interfaces: scikit-learn."""
