"""The service's own code: how it is loaded, its version, and the names that it uses."""
