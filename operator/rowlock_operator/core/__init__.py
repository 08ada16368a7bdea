"""The pure core: what a job needs next, decided from what is observed. No I/O, no framework, no client."""
