"""From a trained model and a volume of any size to logits, probabilities and masks."""
