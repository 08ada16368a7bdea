"""PID 1 of a worker: holds its ranks, obeys the coordinator, reports; imports torch once and forks ranks."""
