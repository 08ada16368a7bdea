"""Models: plain modules that know nothing of who trains them, or on how many machines."""
