"""Kill it: every part of a service, at every step of its reload, and at random.

The takeover table (sdsupervise/core/takeover.py) says all the places there are: before, between and after the effects
of each of its rules. Each is reached on a real service, with a real systemd or as plain processes, and held there
(sdsupervise/breakpoints.py) while one of the four, old or new supervisor or worker, is killed (-9) or stopped
(SIGSTOP). Then all are let go, and from outside it is seen that somebody serves, that never two worked, that the
reload's caller was told the truth, that the next reload works, and that a stop leaves nothing.

    probe       the service; its workers prove by an flock that they work alone
    hub         hears everybody and waits, with one deadline, for what has to come
    instance    one service: plain processes, or a unit
    stage       leads it somewhere: holds, lets go, kills, and keeps who was harmed
    ways        how each transition is reached, or why it cannot be
    oracle      what has to be true in the end
    cases       the matrix
    rounds      random rounds under a client's load
    crew        many at a time, here or inside a machine

The ordinary test run plays the transitions of a good reload in full, one harm at each other transition, and 60 random
rounds, with systemd and without. All of it, some 2,300 cases, or as many rounds as you like:

    python -m tests.kill --all
    python -m tests.kill --rounds 500 --seed 1
"""
