"""The events in the journal: each transition of a service is one entry, with fields that programs can read.

The log call has the sentence. `entry_fields` adds the rest, see systemd.journal-fields(7):

    SDSUPERVISE_EVENT         the event, one of CatalogEntry
    MESSAGE_ID                its id, by which `journalctl -x` finds the text in units/sdsupervise.catalog
    SDSUPERVISE_GENERATION    the supervisor's generation, as in every entry, or the generation that the event is about
    SDSUPERVISE_WORKER_PID, SDSUPERVISE_WORKER_INDEX
    SDSUPERVISE_PHASE         of a reload: a state of core/takeover.py
    SDSUPERVISE_VERDICT       of a reload: done, failed, refused
    SDSUPERVISE_DURATION_SEC  of a reload, of a worker's life, or the limit that it missed: seconds, with fractions
    SDSUPERVISE_REASON        why, in at most one sentence

Standard error has no fields, so the sentence there says everything.
"""

from enum import Enum
from typing import Protocol


class CatalogEntry(Enum):
    """The events. A value is the event's MESSAGE_ID, which never changes after a release; `word` is its name in the
    journal."""

    STARTING = "09830e22702e4b3189c1c2847f9c650b"
    SERVING = "1e15d25ddf444ef7804558f3d19fdb99"
    STOPPING = "ef7c914e6b3443969be3a3057882f841"
    STOPPED = "19cc42ea8ffd4d8f829f10cf861ce243"
    DRAINED = "5b77f92294084eed86bfa64cfaee543f"  # after a reload that succeeded, the old generation has exited
    ABANDONED = "c52b5e4c26b348348358d66171ad89e1"  # after a reload that failed, the new generation has exited
    GAVE_UP = "610d3ebfe4d248b8912bc3afd05e85f3"
    RELOAD_STARTED = "60c1d73fe04042bbb324807ad3fcf233"
    RELOAD_SIGNALLED = "9aef0be1dc594a1c9da1b1ee666b0927"  # a reload by reload_signal has begun
    RELOAD_PHASE = "8c9281de1a9246e58d1665f24053e67e"
    RELOADED = "5a592398062d49078d426f9c5c759d50"
    ROLLED_BACK = "fb20d84ffbcd40f9859379b0b3e943ab"
    NOBODY_SERVES = "406cd2dfebeb425a92e8570f165eae38"  # instead of ROLLED_BACK: the old code does not start either
    RELOAD_STOPPED = "41f231fea1fc41e2944b7588e7778abd"  # a stop of the service ended the reload
    RELOAD_REFUSED = "929ff1a3084042149752c0764b09c9a4"
    GENERATION_KILLED = "0d44d2ab67a24b81a395494c15b3044a"
    WORKER_READY = "a35dfdf5b0924318b699d87620268f14"
    WORKER_EXITED = "8265944821374904aec84c8ebff37afa"
    WORKER_CRASHED = "d0225dca77e54c61b24cd9ccaffb4842"
    WORKER_LATE = "c4d435fa3c1144bab12e2c02f4279f27"  # a worker was not ready in time
    WORKER_HUNG = "876c3f0cbd464832a7c7c4403ed67852"
    WORKER_TRACEBACK = "8fafb887990d473ea961db430a4a7355"  # where a worker hangs, or the exception that ended it
    WORKER_KILLED = "7cf04ef282ba4a2d921038da8dc821ba"  # a worker did not exit in time after its stop signal
    SIGNAL_REFUSED = "48957fd586d9488b9e8b225a378a963f"  # we may not signal a worker
    WORKER_REPLACED = "b1e3b793e23e4d298213d73c83d3f82b"
    WORKER_NOT_REPLACED = "9b7faa04b78f4edf99d9fed3969e394f"
    WORKER_NOT_STARTED = "83c3e1fb40a448769f6f2a92f8b0eecd"
    CRASH_LOOP = "78e44687ce494e839f36fdef87e56fd2"
    CRASH_LOOP_OVER = "08621b2dd57946c2b302759b0e557ffa"
    SCALED = "3fceec89dbac4c6b912c0801d0dbb644"
    SCALING_REFUSED = "b08afb6f49f04442bff7d90c155fe333"
    NOTIFY_FAILED = "a8bc0fadb32f4c1cb4dba8cc2d601a2a"  # notify_command failed
    BUG = "943e0a324dc048ca8895522a3aadd685"

    @property
    def word(self) -> str:
        """The value of SDSUPERVISE_EVENT: worker-crashed."""
        return self.name.lower().replace("_", "-")


class SomeWorker(Protocol):
    """What the journal needs to know of a worker."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def index(self) -> int:
        """The number of its slot in the pool."""


def entry_fields(
    entry: CatalogEntry,
    *,
    worker: SomeWorker | None = None,
    generation: int | None = None,
    phase: str = "",
    verdict: str = "",
    seconds: float | None = None,
    reason: str = "",
) -> dict[str, dict[str, str]]:
    """Return the `extra` of a log call for an event. Fields without a value are left out; `seconds` is a duration."""
    fields = {"MESSAGE_ID": entry.value, "SDSUPERVISE_EVENT": entry.word}
    if worker is not None:
        fields |= {"SDSUPERVISE_WORKER_PID": str(worker.pid), "SDSUPERVISE_WORKER_INDEX": str(worker.index)}
    if generation is not None:
        fields["SDSUPERVISE_GENERATION"] = str(generation)
    if seconds is not None:
        fields["SDSUPERVISE_DURATION_SEC"] = f"{seconds:.3f}"
    for name, text in (("PHASE", phase), ("VERDICT", verdict), ("REASON", reason)):
        if text:
            fields[f"SDSUPERVISE_{name}"] = text
    return {"sdsupervise": fields}
