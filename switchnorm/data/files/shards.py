"""Pictures in WebDataset's shards: tar archives, in a folder or anywhere that fsspec reaches.

A shard is read once from head to head, which tells where each picture lies; from then on every picture is a file like
any other. So the order of samples and all randomness are those of folders, whatever the shards, and a run goes on in
the middle of an epoch.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from switchnorm.data.files.listing import NAMES, Listing, Paths, find_listed
from switchnorm.data.files.members import Member, file_system, is_url
from switchnorm.data.files.walk import EXTENSIONS, Account
from switchnorm.errors import AbsentError, InputError
from switchnorm.text import canonical

#: Of one block of a tar archive, two of which, empty, are its end.
_BLOCK = 512
_MOST_LABELS = 1_000_000
#: Shards whose heads are read at a time.
_THREADS = 8
_LABEL = ".cls"


class Place(NamedTuple):
    """Where a picture is: the number of its shard, -1 where it is in none, its name, and where its bytes are."""

    shard: int
    name: str
    offset: int
    size: int


class ShardPaths(Paths):
    """The paths of pictures in shards, each a `Member`.

    Args:
        folder: what errors name: the place of all shards.
        shards: paths or URLs.
        places: of the pictures.
    """

    def __init__(self, folder: str, shards: Sequence[str], places: Sequence[Place]) -> None:
        super().__init__(Path(folder), (place.name for place in places))
        self.folder = folder  # of a URL nothing is made absolute
        self.shards = list(shards)
        self._where = torch.tensor([(place.shard, place.offset, place.size) for place in places]).reshape(-1, 3)

    def chosen(self, places: Sequence[int]) -> Paths:
        """As of `Paths`."""
        where = ((self.name(place), self._where[place].tolist()) for place in places)
        return ShardPaths(self.folder, self.shards, [Place(at[0], name, *at[1:]) for name, at in where])

    def __getitem__(self, index: int) -> str:
        shard, offset, size = self._where[index].tolist()
        if shard < 0:
            return f"{self.folder}/{self.name(index)}"  # which is missing
        return Member(self.shards[shard], self.name(index), offset, size)


class Shard(NamedTuple):
    """What a shard holds, each under a name of its own.

    Args:
        pictures: offset and size of each.
        labels: what files `.cls` say.
        others: names of what is left out.
    """

    pictures: dict[str, tuple[int, int]]
    labels: dict[str, str]
    others: list[str]


def shards_in(place: str) -> list[str]:
    """The shards of a folder, or those that a path or URL with wildcards or "{000..127}" names; sorted.

    Raises:
        AbsentError: a URL that cannot be reached.
    """
    if not is_url(place):
        folder, pattern = (place, "*.tar") if os.path.isdir(place) else os.path.split(place)
        names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        wanted = _expanded(pattern)
        return sorted(os.path.join(folder, name) for name in names if any(fnmatch.fnmatchcase(name, p) for p in wanted))
    try:
        fs, path = file_system(place)
        pattern = path if path.endswith(".tar") else f"{path.rstrip('/')}/*.tar"
        found = [each for wanted in _expanded(pattern) for each in fs.glob(wanted)]
    except Exception as error:  # of whatever fsspec asks
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise AbsentError(f"shards {place!r} cannot be reached: {said}") from error
    cache, _, scheme = place[: place.index("://") + 3].rpartition("::")
    if not cache:
        return sorted(fs.unstrip_protocol(each) for each in found)
    return sorted(f"{cache}::{each if is_url(each) else scheme + each}" for each in found)


def find_shards(root: str, split: str, folder: str) -> list[str]:
    """The shards of a split below a root: those of its folder, or those in the root that are named by the split.

    Args:
        root: a folder or URL.
        split: "train" or "val".
        folder: of the split, in the root or absolute.
    """
    names = NAMES[split] if folder == split else (folder,)
    for name in names:
        place = name if is_url(name) or os.path.isabs(name) else f"{root.rstrip('/')}/{name}"
        if (is_url(place) or os.path.isdir(place)) and (found := shards_in(place)):
            return found
    for name in names if folder == split else ():
        of_split = re.compile(rf"(^|[-_.]){name}([-_.\d]|$)")
        if found := [each for each in shards_in(root) if of_split.search(os.path.basename(each).removesuffix(".tar"))]:
            return found
    return []


def read_shards(source: str, shards: Sequence[str], *, may_miss: bool) -> Listing:
    """The labelled pictures of shards: a label is in a sample's `.cls`, or else its class is the folder it lies in.

    Pictures in folders are in the order that a folder of classes would give them, so that training is the same. Others
    are in the order of the shards.

    Args:
        source: where the shards are, for errors.
        shards: paths or URLs.
        may_miss: whether to go on without shards that are damaged.

    Raises:
        InputError: a shard that is damaged, no pictures, or pictures without a label.
    """
    account = Account()
    found = dict(_read_all(shards, may_miss=may_miss, account=account))
    for number, shard in found.items():
        for name in shard.others:
            account.add(f"files of type {os.path.splitext(name)[1] or 'none'}", f"{shards[number]}/{name}")
    if not any(shard.pictures for shard in found.values()):
        raise InputError(f"{source}: its {len(shards)} shards hold no pictures ({' '.join(EXTENSIONS)})")
    if any(shard.labels for shard in found.values()):
        samples = [
            (Place(number, name, *shard.pictures[name]), label)
            for number, shard in found.items()
            for name, label in _labelled(shards[number], shard, account)
        ]
        paths = ShardPaths(source, shards, [place for place, _ in samples])
        labels = torch.tensor([label for _, label in samples])
        return Listing(source, paths, labels, {}, written=True, left_out=account.total())
    places = [Place(number, name, *at) for number, shard in found.items() for name, at in shard.pictures.items()]
    classes = [place.name.partition("/")[0] if "/" in place.name else "" for place in places]
    if "" in classes:
        first = places[classes.index("")]
        raise InputError(
            f"{shards[first.shard]}: {first.name!r} has no label; expected {_key(first.name)}{_LABEL} beside it, or a "
            "folder of its class"
        )
    order = sorted(range(len(places)), key=lambda i: (canonical(classes[i]), *places[i].name.split("/")[1:]))
    names = sorted(set(classes), key=canonical)
    number_of = {name: label for label, name in enumerate(names)}
    return Listing(
        source,
        ShardPaths(source, shards, [places[i] for i in order]),
        torch.tensor([number_of[classes[i]] for i in order]),
        dict(enumerate(map(canonical, names))),
        written=False,
        left_out=account.total(),
    )


def find_pictures(
    names: Sequence[str], folders: Sequence[Path | str], file: Path, *, may_miss: bool
) -> tuple[list[str], Paths]:
    """The pictures that a file names, as files below a folder or in its shards; as `find_listed`.

    Args:
        names: as the file has them.
        folders: below which they may lie, or URLs of shards.
        file: that names them.
        may_miss: whether some may be missing, and shards damaged.
    """
    for folder in folders:
        sought = is_url(str(folder)) or not any(os.path.exists(os.path.join(each, names[0])) for each in folders)
        if sought and (shards := shards_in(str(folder))):
            return _find_in_shards(names, str(folder), shards, file, may_miss=may_miss)
    there = [folder for folder in folders if isinstance(folder, Path)]
    if not there:
        raise InputError(f"{folders[0]} holds no shards (*.tar)")
    found, folder = find_listed(names, there, file, "pictures", may_miss=may_miss)
    return found, Paths(folder, found)


def _find_in_shards(
    names: Sequence[str], source: str, shards: Sequence[str], file: Path, *, may_miss: bool
) -> tuple[list[str], Paths]:
    """The pictures that a file names, in shards; by their names there, or the ends of these.

    Args:
        names: as the file has them.
        source, shards: as of `read_shards`.
        file: that names them, for errors.
        may_miss: whether some may be missing, and shards damaged.

    Returns:
        The names, and where they are.

    Raises:
        InputError: pictures that are missing, or a shard that is damaged.
    """
    found: dict[str, Place] = {}
    twice: dict[str, Place] = {}
    for number, shard in _read_all(shards, may_miss=may_miss, account=Account()):
        for name, at in shard.pictures.items():
            place = Place(number, name, *at)
            for known in {canonical(name), canonical(os.path.basename(name))}:
                # What a picture is called in full comes before the end of another's name.
                if known in found and (known == canonical(name)) == (known == canonical(found[known].name)):
                    twice[known] = place
                elif known not in found or known == canonical(name):
                    found[known] = place
                    twice.pop(known, None)
    asked = [known if (known := canonical(name)) in found else canonical(os.path.basename(name)) for name in names]
    if unclear := next((known for known in asked if known in twice), None):
        of = " and ".join(f"{shards[place.shard]}/{place.name}" for place in (found[unclear], twice[unclear]))
        raise InputError(f"{file} names {unclear!r}, which both {of} may be; expected a single one")
    here = [found.get(known) for known in asked]
    missing = [name for name, place in zip(names, here, strict=True) if place is None]
    if missing and (len(missing) == len(names) or not may_miss):
        advice = "" if len(missing) == len(names) else "; bring them, or set on_damaged to 'skip'"
        raise InputError(
            f"{file}: {len(missing)} of its {len(names)} pictures are missing in the {len(shards)} shards of {source}, "
            f"the first is {missing[0]}{advice}"
        )
    nowhere = [Place(-1, name, 0, 0) if place is None else place for name, place in zip(names, here, strict=True)]
    return [place.name for place in nowhere], ShardPaths(source, shards, nowhere)


def _read_all(shards: Sequence[str], *, may_miss: bool, account: Account) -> Iterator[tuple[int, Shard]]:
    """What shards hold, in their order, each with its number; those that are damaged are left out, or raise."""

    def read(shard: str) -> Shard | InputError:
        try:
            return read_shard(shard)
        except InputError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as threads:
        for number, found in enumerate(threads.map(read, shards)):
            if isinstance(found, Shard):
                yield number, found
            elif may_miss:
                account.add("damaged shards", str(found))
            else:
                raise InputError(f"{found}; bring it again, or set on_damaged to 'skip'")


def read_shard(shard: str) -> Shard:
    """What a shard holds, by the heads of its members.

    Raises:
        InputError: it cannot be read, is no whole tar archive, or has a picture or label twice; says where.
    """
    found, at = Shard({}, {}, []), 0
    try:
        with _opened(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                at = member.offset_data + member.size
                if not member.isfile() or os.path.basename(member.name).startswith("."):
                    continue
                name = member.name.removeprefix("./")
                if name in found.pictures or name in found.labels:
                    raise InputError(f"shard {shard} holds {name!r} twice; expected names that say which is meant")
                ending = os.path.splitext(name)[1].lower()
                if ending in EXTENSIONS:
                    found.pictures[name] = member.offset_data, member.size
                elif ending == _LABEL:
                    content = archive.extractfile(member)
                    assert content is not None
                    found.labels[name] = content.read(64).decode(errors="replace").strip()
                else:
                    found.others.append(name)
            # tarfile takes the first block that is no head for the end.
            file.seek(archive.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError("what follows is no head of a file, nor the end of an archive")
    except OSError as error:
        raise InputError(f"shard {shard} cannot be read ({error.strerror or error})") from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise InputError(f"shard {shard} is damaged after byte {at} ({error})") from error
    return found


def _opened(shard: str) -> BinaryIO:
    if not is_url(shard):
        return open(shard, "rb")
    fs, path = file_system(shard)
    opened: Any = fs.open(path, "rb")
    return opened


def _key(name: str) -> str:
    """What the files of one sample have in common: the name up to the first dot of its last part."""
    folder, file = os.path.split(name)
    return os.path.join(folder, file.partition(".")[0])


def _labelled(shard: str, content: Shard, account: Account) -> Iterator[tuple[str, int]]:
    """The picture and the label of each sample of a shard, in their order.

    A picture or label beside the one that is called as the sample is, such as `1.mask.png` beside `1.png`, is another.

    Raises:
        InputError: several pictures or labels of a sample, or none, or a label that is no number.
    """
    labels = _by_sample(content.labels)
    for key, names in _by_sample(content.pictures).items():
        picture = _own(shard, key, names, "pictures", account)
        label = _own(shard, key, labels.pop(key, []), "labels", account)
        yield picture, _label(f"{shard}/{picture}", None if not label else content.labels[label])
    for names in labels.values():
        account.add("labels without a picture", f"{shard}/{names[0]}", len(names))


def _by_sample(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_key(name), []).append(name)
    return found


def _own(shard: str, key: str, names: list[str], what: str, account: Account) -> str:
    """The one of a sample's pictures, or labels, that counts; the others are left out. "" where there is none."""
    own = [name for name in names if os.path.splitext(name)[0] == key] or names
    if len(own) > 1:
        raise InputError(f"{shard}: {own[0]!r} and {own[1]!r} are {what} of one sample; expected a single one")
    for name in names:
        if name not in own:
            account.add(f"{what} beside those of samples", f"{shard}/{name}")
    return own[0] if own else ""


def _label(what: str, label: str | None) -> int:
    if label is None or not (label.isascii() and label.isdigit() and int(label) < _MOST_LABELS):
        has = "none" if label is None else repr(label)
        raise InputError(f"{what} must have a label from 0 to {_MOST_LABELS - 1} in its {_LABEL}, got {has}")
    return int(label)


def _expanded(pattern: str) -> Iterable[str]:
    """The patterns that "{000..127}" stands for."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    return [
        each
        for number in numbers
        for each in _expanded(f"{pattern[: found.start()]}{number:0{len(first)}d}{pattern[found.end() :]}")
    ]
