"""What the operator was installed with and every plan may use."""

from dataclasses import dataclass, field

from modelwright.api.common import Storage
from modelwright.api.run import ResolvedStorage
from modelwright.plan.quotas import Quota


@dataclass(frozen=True)
class Settings:
    """Defaults from the chart."""

    runtime_image: str
    server_image: str
    report_url: str | None = None
    """Base URL of the operator's report endpoint, as pods reach it; None: pods do not report."""
    storage: Storage = field(default_factory=Storage)
    quotas: tuple[Quota, ...] = ()
    """What gangs may use together."""
    pod_groups: str | None = None
    """The API version of the PodGroups that the cluster serves; None: pods are placed one by one."""

    def resolve(self, storage: Storage) -> ResolvedStorage | None:
        """Return a resource's storage with defaults filled in; None when there is no URI anywhere."""
        chosen = self._chosen(storage)
        if chosen.uri is None:
            return None
        return ResolvedStorage(uri=chosen.uri.rstrip("/"), endpoint=chosen.endpoint, region=chosen.region)

    def secret_name(self, storage: Storage) -> str | None:
        """Return the Secret with the credentials of a resource's storage; None: the pods' own identity."""
        return self._chosen(storage).secret_name

    def _chosen(self, storage: Storage) -> Storage:
        # A resource that names its own endpoint stands alone: the credentials of one store never go to another.
        if storage.endpoint is not None:
            return storage
        default = self.storage
        return Storage(
            uri=storage.uri or default.uri,
            endpoint=default.endpoint,
            region=storage.region or default.region,
            secret_name=storage.secret_name or default.secret_name,
        )
