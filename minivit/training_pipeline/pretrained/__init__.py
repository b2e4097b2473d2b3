"""Training with pretrained weights: fine-tuning, a linear probe on features, or a teacher."""
