"""The estimator of minivit that has the interface of scikit-learn."""
