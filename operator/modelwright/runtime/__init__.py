"""What runs inside pods: training, tuning, serving, monitoring. It knows nothing of Kubernetes."""
