"""The control socket: its server, its clients, and the language between them."""
