"""The memory of processes.

Rejected: psutil. It costs a supervisor megabytes, and looks itself up in sys.modules, where a service may have another
module of that name.
"""

_MOST_BYTES = 65536  # of some 30 lines
_PRIVATE = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")


def private_bytes(pid: int) -> int:
    """Return how many bytes the end of the process would free (its unique set size); 0 if it is gone or hidden from
    us."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:  # proc_pid_smaps(5)
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(_PRIVATE))
