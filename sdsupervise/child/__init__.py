"""What runs in the worker process, beside the service's own code."""
