"""Published model files, recognised by size and hash, and their image preprocessing.

Sources: Open Model Zoo's model.yml of vgg16 and vgg19 for sizes and hashes of the Caffe releases,
MatConvNet's page of pretrained models for its MD5 sums, the readme of the VGG release for the
preprocessing.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from caffecompat.errors import FileProblem

CHUNK = 1 << 20

VERY_DEEP = (
    "images: B, G, R from 0 to 255, minus the mean pixel B 103.939, G 116.779, R 123.68 (not a "
    "mean image)",
    "classes: 0 to 999 in order of WordNet id, as in Caffe's synset_words.txt (0 is n01440764, "
    "tench)",
    "licence: CC BY 4.0",
)
MATCONVNET = (
    "images: R, G, B from 0 to 255, minus meta.normalization.averageImage of the file",
    "arrays: height x width x channels x filters",
)
CAFFE_ORDER = (*MATCONVNET, "classes: 0 to 999 in order of WordNet id (0 is n01440764, tench)")
DEVKIT_ORDER = (
    *MATCONVNET,
    "classes: in the order of the ILSVRC devkit, not Caffe's (0 is n02119789, kit fox)",
)


@dataclass(frozen=True)
class PublishedFile:
    """A published file.

    Attributes:
        name: its file name.
        what: a description in words.
        algorithm, digest: hashlib's name of the hash, and its value in hexadecimal.
        size: in bytes, if known.
        preparation: lines about image preprocessing, class order and licence.
    """

    name: str
    what: str
    algorithm: str
    digest: str
    size: int | None = None
    preparation: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognition:
    """A file that resembles a published one; ``exact`` if their hashes are equal."""

    published: PublishedFile
    exact: bool

    def sentence(self) -> str:
        """The result in words."""
        known = self.published
        if self.exact:
            return f"this is the published {known.name}: {known.what} ({known.algorithm} agrees)"
        similarity = "has the size" if known.size is not None else "has the name"
        return (
            f"this {similarity} of the published {known.name} ({known.what}), but not its "
            f"{known.algorithm}: it was altered or damaged"
        )


PUBLISHED = (
    PublishedFile(
        "VGG_ILSVRC_16_layers.caffemodel",
        "VGG's 16-layer net, configuration D, ILSVRC-2014, 138,357,544 parameters",
        "sha256",
        "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197",
        553_432_081,
        VERY_DEEP,
    ),
    PublishedFile(
        "VGG_ILSVRC_16_layers_deploy.prototxt",
        "definition of VGG's 16-layer net",
        "sha256",
        "9fdb04e3f5b9224af473e82441b05b76368dfa6dc841e80655303823e9770962",
        4_776,
        VERY_DEEP,
    ),
    PublishedFile(
        "VGG_ILSVRC_19_layers.caffemodel",
        "VGG's 19-layer net, configuration E, ILSVRC-2014, 143,667,240 parameters",
        "sha384",
        "86b83739d448a81ddc927922d4d7581e06113478106b59480097b02cc63ff51c"
        "9da7c3cd8a865b08946d07d0281d5b2e",
        574_671_192,
        VERY_DEEP,
    ),
    PublishedFile(
        "VGG_ILSVRC_19_layers_deploy.prototxt",
        "definition of VGG's 19-layer net",
        "sha384",
        "f3c8a34cbaba8c92fbd7744f4a26d244555e1b9a541fef3294622483b316465d"
        "ad2363bdbab548dfd6733da66213a2d3",
        5_499,
        VERY_DEEP,
    ),
    *(
        PublishedFile(name, what, "md5", digest, None, preparation)
        for name, what, digest, preparation in (
            (
                "imagenet-vgg-verydeep-16.mat",
                "MatConvNet's copy of VGG's 16-layer net",
                "f72d927587ca4c97fbd165ec9cb9997f",
                CAFFE_ORDER,
            ),
            (
                "imagenet-vgg-verydeep-19.mat",
                "MatConvNet's copy of VGG's 19-layer net",
                "106118b7cf60435e6d8e04f6a6dc3657",
                CAFFE_ORDER,
            ),
            (
                "imagenet-vgg-f.mat",
                "VGG's net CNN-F in MatConvNet",
                "3513562d28089bd965cc050cbf8597a6",
                CAFFE_ORDER,
            ),
            (
                "imagenet-vgg-m.mat",
                "VGG's net CNN-M in MatConvNet",
                "29294d5f62578c96a3533859514235f2",
                DEVKIT_ORDER,
            ),
            (
                "imagenet-vgg-s.mat",
                "VGG's net CNN-S in MatConvNet",
                "dbe23da22e82078debda75842b16d5fa",
                DEVKIT_ORDER,
            ),
            (
                "vgg-face.mat",
                "VGG-Face in MatConvNet",
                "3d6cd504bf9c98af4a561aad059565d1",
                MATCONVNET,
            ),
            (
                "imagenet-matconvnet-vgg-verydeep-16.mat",
                "a 16-layer net that MatConvNet's authors trained themselves",
                "89a117515f66c3d7b0eb9d0516c65141",
                CAFFE_ORDER,
            ),
        )
    ),
)


def recognise(path: str | os.PathLike[str]) -> Recognition | None:
    """The published file with the size (or, if that is unknown, the name) of this one, else None.

    Only then is the file read and hashed.

    Raises:
        FileProblem: the file cannot be read.
    """
    path = Path(path)
    size = path.stat().st_size
    for known in PUBLISHED:
        similar = size == known.size if known.size is not None else path.name.lower() == known.name
        if similar:
            return Recognition(known, file_hash(path, known.algorithm) == known.digest)
    return None


def file_hash(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """A file's hash in hexadecimal.

    Raises:
        FileProblem: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()
