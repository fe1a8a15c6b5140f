"""`python -m tests.bench`: what sdsupervise costs, each number beside its baseline, measured in turns in one run."""
