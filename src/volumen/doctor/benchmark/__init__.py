"""The proof: trainings with known faults and healthy ones beside them, and what examiners say to their records."""
