"""Where everything lies below a storage URI. Keys only; `modelwright.registry` does the reading and writing."""


def run_prefix(namespace: str, uid: str) -> str:
    """Return the prefix of everything that one job leaves behind."""
    return f"runs/{namespace}/{uid}/"


def result_key(namespace: str, uid: str) -> str:
    """Return the key of a `TrainingResult`."""
    return f"{run_prefix(namespace, uid)}result.json"


def sweep_key(namespace: str, uid: str) -> str:
    """Return the key of a `SweepResult`."""
    return f"{run_prefix(namespace, uid)}sweep.json"


def registration_key(namespace: str, uid: str) -> str:
    """Return the key of a job's `Registration`: the one version number that all its attempts share."""
    return f"{run_prefix(namespace, uid)}registration.json"


def checkpoint_prefix(namespace: str, uid: str, step: int | None = None) -> str:
    """Return the prefix of a checkpoint, or of all of them; steps sort as text in their own order."""
    below = "" if step is None else f"{step:012d}/"
    return f"{run_prefix(namespace, uid)}checkpoints/{below}"


def attempt_prefix(namespace: str, uid: str, attempt: int) -> str:
    """Return the prefix of what is kept of one attempt: logs, stacks where it hung, and that it ended well."""
    return f"{run_prefix(namespace, uid)}attempts/{attempt}/"


def completed_key(namespace: str, uid: str, attempt: int) -> str:
    """Return the key of an empty document: the command of worker 0 ended well, and nobody had asked it to."""
    return f"{attempt_prefix(namespace, uid, attempt)}completed.json"


def log_key(namespace: str, uid: str, attempt: int, index: str) -> str:
    """Return the key of the end of a worker's log; `index` is its completion index."""
    return f"{attempt_prefix(namespace, uid, attempt)}logs/worker-{index}.log"


def stacks_prefix(namespace: str, uid: str, attempt: int) -> str:
    """Return the prefix of the stacks of an attempt that hung, one file a process."""
    return f"{attempt_prefix(namespace, uid, attempt)}stacks/"


def stack_key(namespace: str, uid: str, attempt: int, rank: int | str) -> str:
    """Return the key of the stacks of all threads of one process."""
    return f"{stacks_prefix(namespace, uid, attempt)}rank-{rank}.txt"


def version_prefix(model: str, version: int | None = None) -> str:
    """Return the prefix of a version's files, or of all versions."""
    below = "" if version is None else f"{version}/"
    return f"models/{model}/versions/{below}"


def claim_key(model: str, version: int) -> str:
    """Return the key of a `Claim`: whoever creates it owns the number."""
    return f"{version_prefix(model, version)}claim.json"


def manifest_key(model: str, version: int) -> str:
    """Return the key whose presence makes a version complete."""
    return f"{version_prefix(model, version)}manifest.json"


def alias_key(model: str, alias: str) -> str:
    """Return the key of an `Alias`."""
    return f"models/{model}/aliases/{alias}.json"


def monitoring_prefix(namespace: str, deployment: str, version: int) -> str:
    """Return the prefix of the windows that the servers of one version wrote."""
    return f"monitoring/{namespace}/{deployment}/{version}/"


def window_key(namespace: str, deployment: str, version: int, start: int, replica: str) -> str:
    """Return the key of a `Window`; `start` is in Unix seconds, and windows sort as text in the order of time."""
    return f"{monitoring_prefix(namespace, deployment, version)}{start:012d}/{replica}.json"
