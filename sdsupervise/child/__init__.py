"""What runs in the worker process, beside the code of the service."""
