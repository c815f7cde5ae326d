"""Media types of manifests, configs and layers, OCI's and Docker's, and what they mean here."""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
LAYERS = (
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
)
ACCEPTED = (*MANIFESTS, *INDEXES)


def of_layer(compression: str) -> str:
    """The OCI media type of a layer that is stored as gzip, zstd or uncompressed."""
    return OCI_LAYER if compression == "uncompressed" else f"{OCI_LAYER}+{compression}"


def as_docker(media_type: str) -> str:
    """Docker's word for an OCI manifest, config or layer; other types stay."""
    return _DOCKERS.get(media_type, media_type)


_DOCKERS = {
    OCI_INDEX: DOCKER_LIST,
    OCI_MANIFEST: DOCKER_MANIFEST,
    OCI_CONFIG: DOCKER_CONFIG,
    OCI_LAYER: DOCKER_LAYER,
    OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
}


def as_oci(media_type: str) -> str:
    """OCI's word for what Docker calls otherwise; other types stay."""
    return _OCI.get(media_type, media_type)


_OCI = {docker: oci for oci, docker in _DOCKERS.items()} | {DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD}


def is_foreign(media_type: str) -> bool:
    """Whether a layer may not be distributed: it is fetched from elsewhere, which is not supported."""
    return ".nondistributable." in media_type or ".foreign." in media_type
