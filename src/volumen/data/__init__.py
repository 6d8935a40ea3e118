"""From files on disk to training samples: read, verified, packed, divided into folds, sampled, varied and batched."""
