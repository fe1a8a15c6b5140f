"""Groups of states, and places of the takeover table, that several tests need.

They come from the tables of core/, so that a new state is in them.
"""

from collections.abc import Collection

from sdsupervise.core.phases import PHASES
from sdsupervise.core.takeover import RULES, Effect, State

# A predecessor has given up the lock, and its reload may still fail. In an overlap its workers serve beside the new
# ones. It comes from columns of phases.py, not from the rules that tests hold these states to.
WITHOUT_LOCK: Collection[State] = tuple(
    state for state, phase in PHASES.items() if phase.step and not phase.releases and not phase.for_workers
)
# A deadline here is how a reload goes on, if nothing goes wrong.
ENDS_WITH_TIME: Collection[State] = tuple(state for state, phase in PHASES.items() if phase.lasts and not phase.awaited)
((NAMING_STATE, NAMING_EVENT),) = (
    (state, event)
    for state, rules in RULES.items()
    for event, rule in rules.items()
    if Effect.NAME_MAIN_PID in rule.effects
)
NAMES_MAIN = f"{NAMING_STATE.name}+{NAMING_EVENT.name}"
"""Where a predecessor tells systemd the new main pid, as its first effect."""
