"""Everything that others say to us, said wrongly: seven surfaces, and the answers that our commands read.

Each is fed as its own objects are in life, with inputs that keep most of their structure and spoil some of it. What is
found is an exception that the surface does not declare, a descriptor that stays open, or a call that takes long.
`python -m tests.chaos.fuzz` feeds as many as one likes; test_fuzz.py some, always the same ones.
"""
