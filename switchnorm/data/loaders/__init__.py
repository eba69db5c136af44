"""From samples to batches: orders, shares of processes, and worker processes that read."""
