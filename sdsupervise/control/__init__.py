"""The control socket: its server, its clients, and their protocol."""
