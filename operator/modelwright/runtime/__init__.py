"""What runs inside pods: training, tuning, serving, monitoring. It knows nothing of Kubernetes."""

import os

# ONNX Runtime reports to its makers what it runs, from the moment that it is imported: names of models and their
# graphs among it. It is asked not to before anything of ours can import it; who wants that sets 0 in the pod.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
