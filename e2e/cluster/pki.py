"""A small certificate authority: everything in the cluster that speaks TLS is signed by it."""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster import files
from e2e.cluster.errors import ClusterError

_LIFETIME = dt.timedelta(days=3650)
_CLOCK_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Identity:
    """Somebody who gets a certificate: the name is a user, the organization its group."""

    file: str
    name: str
    group: str = ""
    hosts: tuple[str, ...] = ()


ADMIN = Identity("admin", "modelwright-admin", "system:masters")
# The API server knows itself as a client of kubelets: that needs rights on nodes/proxy.
API_SERVER_AS_CLIENT = Identity("apiserver-kubelet-client", "kube-apiserver", "system:masters")
CONTROLLER_MANAGER = Identity("controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("scheduler", "system:kube-scheduler")
PROXY = Identity("kube-proxy", "system:kube-proxy")
DNS = Identity("coredns", "system:coredns")


def api_server(*hosts: str) -> Identity:
    """The API server's serving certificate, valid for the given addresses and its Service names."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    return Identity("apiserver", "kube-apiserver", hosts=("localhost", "127.0.0.1", *service, *hosts))


def node(name: str, address: str, file: str = "kubelet") -> Identity:
    """The kubelet's certificate, as client and as server."""
    return Identity(file, f"system:node:{name}", "system:nodes", hosts=(name, address))


def webhook(service: str, namespace: str) -> Identity:
    """The certificate of a webhook, valid for the name under which the API server calls its Service."""
    return Identity(service, service, hosts=(f"{service}.{namespace}.svc",))


def ensure(directory: Path, identities: Sequence[Identity]) -> None:
    """Create the authority, the certificates and the service account key, unless all of them are there."""
    wanted = [directory / f"{identity.file}.crt" for identity in identities]
    if all(path.exists() for path in (*wanted, directory / "ca.crt", directory / "service-account.pub")):
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key, authority = _authority(directory)
    for identity in identities:
        _issue(directory, identity, authority_key, authority)
    _service_account_key(directory)


def join(directory: Path, identity: Identity) -> None:
    """Create one more certificate, signed by the authority that is there."""
    key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ClusterError(f"{directory / 'ca.key'} is not a key that this program has made")
    _issue(directory, identity, key, x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes()))


def _authority(directory: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "modelwright-local-ca")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _save(directory, "ca", key, certificate)
    return key, certificate


def _issue(
    directory: Path, identity: Identity, authority_key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, identity.name)]
    if identity.group:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, identity.group))
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = _builder(x509.Name(attributes), authority.subject, key.public_key()).add_extension(
        x509.ExtendedKeyUsage(usages), critical=False
    )
    if identity.hosts:
        names = [_host(host) for host in identity.hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _save(directory, identity.file, key, builder.sign(authority_key, hashes.SHA256()))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _service_account_key(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    files.write(directory / "service-account.key", _private_pem(key), mode=0o600)
    files.write(directory / "service-account.pub", public)


def _save(directory: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    files.write(directory / f"{name}.key", _private_pem(key), mode=0o600)
    files.write(directory / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
