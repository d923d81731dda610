"""The registry as a release engineer uses it: look at versions, put one there from elsewhere, move an alias."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from typer.testing import CliRunner

from e2e.support.store import Bucket
from modelwright.api.artifacts import Alias, File, Lineage, Manifest
from modelwright.api.layout import alias_key, manifest_key, version_prefix
from modelwright.cli.app import app


@dataclass(frozen=True)
class Models:
    """The models in a bucket."""

    bucket: Bucket

    def uri(self, model: str, version: int) -> str:
        """Return where the files of a version lie."""
        return f"{self.bucket.uri}/{version_prefix(model, version)}"

    def versions(self, model: str) -> list[int]:
        """Return the numbers of the complete versions, ascending."""
        keys = self.bucket.keys(version_prefix(model))
        return sorted(int(key.split("/")[-2]) for key in keys if key.endswith("/manifest.json"))

    def numbers_taken(self, model: str) -> list[int]:
        """Return the numbers that anything was ever written under, complete or not."""
        return sorted({int(key.split("/")[3]) for key in self.bucket.keys(version_prefix(model))})

    def manifest(self, model: str, version: int) -> Manifest:
        """Return the manifest of a version."""
        return Manifest.model_validate_json(self.bucket.get(manifest_key(model, version)))

    def lineage(self, model: str, version: int) -> Lineage:
        """Return where a version comes from."""
        return Lineage.model_validate_json(self.file(model, version, "lineage.json"))

    def file(self, model: str, version: int, name: str) -> bytes:
        """Return a file of a version."""
        return self.bucket.get(version_prefix(model, version) + name)

    def holder(self, model: str, alias: str = "champion") -> int:
        """Return the version that holds an alias."""
        return Alias.model_validate_json(self.bucket.get(alias_key(model, alias))).version

    def copy(self, model: str, version: int, to: str, number: int, changed: Mapping[str, bytes] | None = None) -> None:
        """Register a copy of a version under another name and number; `changed` files have honest hashes, too."""
        original = self.manifest(model, version)
        files = {}
        for name in original.files:
            content = (changed or {}).get(name) or self.file(model, version, name)
            files[name] = File(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
            self.bucket.put(version_prefix(to, number) + name, content)
        copied = original.model_copy(update={"model": to, "version": number, "files": files})
        self.bucket.put(manifest_key(to, number), json.dumps(copied.document()).encode())

    def promote(self, model: str, version: int, alias: str = "champion") -> None:
        """Move an alias as a person does: `modelwright promote`."""
        place = ["--storage", self.bucket.uri, "--endpoint", self.bucket.endpoint, "--alias", alias]
        keys = {"AWS_ACCESS_KEY_ID": self.bucket.access_key, "AWS_SECRET_ACCESS_KEY": self.bucket.secret_key}
        done = CliRunner().invoke(app, ["promote", model, str(version), *place], env=keys)
        assert done.exit_code == 0, done.output
