"""The papers' table on real pictures: five normalizers at five batch geometries, as far as the time goes."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks.gpu import pictures
from benchmarks.gpu.job import Entry, Job
from switchnorm.config.task_spec import find_task
from switchnorm.data import Cifar10
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.geometries import Geometry
from switchnorm.studies.geometry import GeometryStudy, plan_study

#: What all trainings together need to start, and what a step of ResNet-20 takes where several trainings share a device:
#: for the choice of how many epochs there is time for, which is a guess until it has been measured.
STARTING, STEP = 25.0, 0.002
EPOCHS = 30
#: Trainings side by side: two rounds of all 25.
WORKERS = 13
_EVERY = 2.0


def run_geometry(job: Job) -> bool:
    """Train all cells; the record has the last epoch of each, whatever becomes of the others."""
    if job.setting.data is None:
        job.notes["skipped"] = "no --data, the folder with CIFAR-10"
        return True
    with tempfile.TemporaryDirectory(prefix="switchnorm-") as folder:
        root = pictures.locate(job.setting.data, Path(folder) / "pictures")
        train = sum(len(pictures.records(root / name)) for name in Cifar10.versions[0].train)
        study = _rehearsed(root, Path(folder)) if job.setting.rehearsing else _study(job, root, Path(folder), train)
        job.notes |= {"pictures": train, "epochs": study.plan[0][1].train.epochs, "side by side": study.workers}
        job.write()
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(job, study, ended))
        watch.start()
        try:
            study.run(job.setting.head["command"].split())
        finally:
            ended.set()
            watch.join()
        for path, why in study.errors.items():
            job.fail(f"{study.names[path]}: {why}")
    return True


def _study(job: Job, root: Path, folder: Path, train: int) -> GeometryStudy:
    flags = ("--train.cuda_graph=true", f"--data.root={root}")
    plan = plan_study(folder / "study", device="cuda", workers=WORKERS, flags=flags)
    steps = sum(train // config.train.batch_size for _, config in plan.plan)
    epochs = max(1, min(EPOCHS, int((job.left() - STARTING) / (STEP * steps))))
    lasting = (f"--train.epochs={epochs}", f"--schedule.warmup_epochs={min(1, epochs / 5)}")
    return plan_study(folder / "study", device="cuda", workers=WORKERS, flags=(*flags, *lasting))


def _rehearsed(root: Path, folder: Path) -> GeometryStudy:
    flags = (f"--data.root={root}", "--data.size=8", "--train.epochs=1", "--schedule.warmup_epochs=0")
    cells = (Geometry(2, 4),)
    return plan_study(folder / "study", norms=("bn", "sn"), geometries=cells, device="cpu", workers=1, flags=flags)


def _watch(job: Job, study: GeometryStudy, ended: threading.Event) -> None:
    """Keep what the runs have reached, until they have ended or the time has."""
    while not ended.wait(_EVERY):
        _keep(job, study)
        if job.left() < _EVERY:
            job.status = "stopped by the time"
            _keep(job, study)
            sys.stdout.flush()
            os._exit(0)  # its trainings end with it
    _keep(job, study)


def _keep(job: Job, study: GeometryStudy) -> None:
    job.rows = [_cell(study, path) for path in study.rows]
    job.write()


def _cell(study: GeometryStudy, path: Path) -> Entry:
    """A cell: what its run says of its last epoch."""
    norm, geometry = study.rows[path]
    cell: Entry = {"norm": norm, "geometry": str(geometry), "epochs": 0}
    if not (path / "run.json").is_file():
        return cell
    try:
        run = RunFolder.open(path)
        metrics = run.metrics()
        column = find_task(run.config().task).score.column
        if metrics:
            cell |= {"epochs": len(metrics), "accuracy": round(100 * float(metrics[-1][column]), 2)}
        if run.finished():
            cell["finished"] = True
    except (InputError, OSError, ValueError):
        pass  # in the middle of being written: the next look finds it
    return cell
