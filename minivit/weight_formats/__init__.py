"""Files of weights: safetensors, timm's names and layout, Google's .npz."""
