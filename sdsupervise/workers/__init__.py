"""Workers: the processes that run the service's code, seen from both ends of the link."""
