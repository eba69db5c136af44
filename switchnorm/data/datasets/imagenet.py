"""ImageNet."""

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from switchnorm.data.datasets.dataset import Dataset
from switchnorm.data.datasets.folder import Folder
from switchnorm.errors import InputError

if TYPE_CHECKING:  # and in quotes, as `Dataset` explains
    from switchnorm.data.files.listing import Listing

_NUM_CLASSES = 1000
#: SHA-256 of the WordNet ids of 2012 in their order, with line breaks between them.
_FOLDERS = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


class ImageNet(Folder):
    """ImageNet's 1,000 classes of 2012 (ILSVRC); layout and options as `Folder`.

    Class folders are named by WordNet ids ("n01440764"). Labels number these in sorted order, as the published lists
    and networks do, and `classes` are the names in English that torchvision knows.
    """

    benchmark_size: ClassVar[int | None] = 50_000
    _num_classes: ClassVar[int | None] = _NUM_CLASSES

    fixed_classes: ClassVar[bool] = True

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in English; known before anything is read."""
        from torchvision.models import ResNet50_Weights  # as `Dataset` explains

        return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])

    @property
    def num_classes(self) -> int:
        """1,000."""
        return _NUM_CLASSES

    def with_classes(self, names: Sequence[str], colors: Sequence[str] | None = None) -> Dataset:
        """As of `Dataset`; they are always the same, and some have one name, so that nothing can be mapped."""
        return Dataset.with_classes(self, names, colors)

    def mapping(self) -> str:
        """As of `Dataset`: whether the folders that number the labels are those of 2012."""
        lead = self._contents.train or self._contents.test
        if lead is None or lead.written:
            return ""
        names = "\n".join(lead.names[label] for label in sorted(lead.names))
        if hashlib.sha256(names.encode()).hexdigest() == _FOLDERS:
            return ""
        return f"the class folders in {lead.source} are not the 1000 of ILSVRC 2012: that labels fit is taken on trust"

    def _check_classes(self, train: "Listing | None", test: "Listing | None") -> None:
        for listing in (train, test):
            if listing is None or listing.written:
                continue
            for name in listing.names.values():
                if not re.fullmatch(r"n\d{8}", name):
                    raise InputError(
                        f"{listing.source} has class folder {name!r}; ImageNet's are named by WordNet ids such as "
                        "'n01440764'. For other classes use the dataset 'folder'"
                    )
