"""Instances, /etc/sdsupervise/NAME.toml: where they are, how they are read and checked."""
