"""What is fixed about the cluster: versions, addresses, ports, names."""

from ipaddress import IPv4Network

KUBERNETES_VERSION = "1.36.3"

CLUSTER_NAME = "modelwright"
NODE_NAME = "modelwright"
CLUSTER_DOMAIN = "cluster.local"

SECOND_NODE_NAME = "modelwright-second"
SECOND_NODE_ADDRESS = "10.244.128.1"
# The taint that keeps all others away, and the label by which pods find it.
SECOND_NODE = "modelwright.dev/second-node"

# The bridge is the node's only address: whatever listens, listens on it or on loopback, never outside.
BRIDGE = "mw0"
NODE_ADDRESS = "10.244.0.1"
POD_RANGE = IPv4Network("10.244.0.0/16")
# Nodes share the bridge, and each gives addresses to its pods from a half of its own.
FIRST_PODS = ("10.244.0.2", "10.244.127.254")
SECOND_PODS = ("10.244.128.2", "10.244.255.254")
SERVICE_RANGE = IPv4Network("10.96.0.0/16")
API_SERVICE_ADDRESS = str(SERVICE_RANGE[1])

API_PORT = 6443
# Not etcd's usual ports: a machine that runs an etcd of its own keeps it.
ETCD_CLIENT_PORT = 12379
ETCD_PEER_PORT = 12380
DNS_PORT = 53
DNS_READY_PORT = 18181

REGISTRY_PORT = 5000
REGISTRY = f"localhost:{REGISTRY_PORT}"

S3_PORT = 7070
S3_NAMESPACE = "storage"
S3_SERVICE = "s3"
S3_REGION = "us-east-1"
S3_BUCKET = "modelwright"

# What a bare Debian needs; the other tools used here (ip, ss, mount) are in every Debian.
DEBIAN_PACKAGES = (
    "buildah",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "debootstrap",
    "docker-registry",
    "etcd-server",
    "iproute2",
    "iptables",
    "kmod",
    # Of LightGBM, which the tests run on this machine.
    "libgomp1",
    "runc",
)
