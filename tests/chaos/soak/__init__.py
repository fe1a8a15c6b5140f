"""Random faults, a day of them if you like: what the matrix of tests/chaos/kill has not thought of.

Nothing of the product is instrumented here. Instances of the template as it is shipped, classes and commands, exclusive
and overlapping, are reloaded to good, broken and slow code under a client's load, and at random moments something goes
wrong: any of their processes is killed or stopped (and goes on after a while, or never), they are restarted, stopped or
frozen, systemd reads its units anew, their disk is full, journald is gone or hangs, their clock is wrong. After each
round somebody must serve; what the reload's caller was told must be what answers; never two generations may have worked
where that is promised, by locks of the service's own; and nothing may be left: no process, socket, descriptor or file.

    service     what is run: the class, and the command
    client      asks it, all the time, and remembers the answers
    instance    one instance: its files, processes, and what an operator does to it
    faults      what can go wrong
    rounds      the dice, and the course of a round
    judge       what has to be true in the end
    proofs      the test of the test
    reloads     a thousand reloads in a row: does a generation need more than the one before?

The clock that is wrong is the one that Python programs see (injected/sitecustomize.py): the real one is everybody's,
and no container has one of its own.

    make soak ROUNDS=10000
    python -m tests.chaos.soak --rounds 10000 --seed 1
    python -m tests.chaos.soak --replay 'class overlap 1017/9'     one round, until it breaks again
    python -m tests.chaos.soak --reloads 1000

What a round does follows from its name; what comes of it also from the scheduler.
"""
