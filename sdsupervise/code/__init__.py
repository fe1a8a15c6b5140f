"""The service's own code: how it is loaded, which version it is, which names it uses."""
