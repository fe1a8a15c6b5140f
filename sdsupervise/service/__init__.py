"""What authors of services use, and how a service starts."""
