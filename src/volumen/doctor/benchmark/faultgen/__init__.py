"""A generator of faults and of healthy set-ups for the audit, and what the audit makes of them."""
