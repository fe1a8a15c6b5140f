"""Kill it: every part of a service, at every step of its reload, and at random.

The takeover table (sdsupervise/core/takeover.py) says all the places there are: before, between and after the effects
of each of its rules. Each is reached on a real service, with a real systemd or as plain processes, and held there
(tests/support/breakpoints) while one of the four, old or new supervisor or worker, is killed (-9) or stopped
(SIGSTOP). Then all are let go, and from outside it is seen that somebody serves, that the reload's caller was told the
truth, that the next reload works, and that a stop leaves nothing. All this for each handover: for exclusive, where
never two generations may work; for overlap, where the old workers may be told to stop only after the commit, a failed
reload has stopped nobody, and drained work ends; and for overlap while a generation older than both still drains.

    probe       the service; its workers show by locked files who takes on work
    hub         hears everybody and waits, with one deadline, for what has to come
    instance    one service: plain processes, or a unit
    stage       leads it somewhere: holds, lets go, kills, and keeps who was harmed
    places      what the name of a place says
    leads       the steps that lead somewhere
    ways        how each transition is reached, or why it cannot be
    witness     what overlap promises of the moments in between
    oracle      what has to be true in the end
    cases       the matrix
    rounds      random rounds under a client's load; handovers, pools and generations that drain are mixed
    crew        many at a time, here or inside a machine

The ordinary test run plays, by chance, a half of the transitions of a good reload with everybody harmed at every place,
once killed and once stopped, once with each handover, once with systemd and once without; one harm at each other
transition; and 40 random rounds, with systemd and without. All of it, some 6,000 cases, or as many rounds as you like:

    python -m tests.chaos.kill --all
    python -m tests.chaos.kill --rounds 500 --seed 1
"""
