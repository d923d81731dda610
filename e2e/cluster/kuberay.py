"""KubeRay's definitions of its kinds, from a pinned Go module, for tests against the real schema. Nothing is built."""

import json
from pathlib import Path

from e2e.cluster import shell
from e2e.cluster.errors import ClusterError

MODULE = "github.com/ray-project/kuberay/ray-operator"
VERSION = "v1.6.2"
SUM = "h1:XUckRswLMyk71D00L62d2Vanh0fVkNqu56+IF/rr+O0="
"""As go.sum would have it. There is no go.mod for it: only files of the module itself are used, and nothing else."""


def definitions() -> Path:
    """The folder with the CustomResourceDefinitions, downloaded now if it is not there yet."""
    # Outside of every module: the build list of this one would be resolved otherwise.
    said = shell.run(["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"], cwd=Path("/"))
    found = json.loads(said)
    if found["Sum"] != SUM:
        raise ClusterError(f"{MODULE}@{VERSION} is {found['Sum']}, and not {SUM}")
    return Path(found["Dir"]) / "config" / "crd" / "bases"
