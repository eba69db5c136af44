from dataclasses import replace

import pytest
import yaml

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.studies.folder import check_folder

RECIPE = {
    "model": {"name": "cifar_resnet8"},
    "data": {"name": "folder", "root": "photos", "range": None},
    "train": {"epochs": 1, "batch_size": 4},
}


def test_a_range_that_a_run_found_in_its_data_makes_it_no_run_of_another_configuration(tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(RECIPE))
    planned = read_config(tmp_path / "r.yaml")
    run = tmp_path / "study" / "seed0"
    run.mkdir(parents=True)
    written = {**planned.content(), "data": {**planned.data, "range": [0.0, 4095.0]}}
    (run / "config.yaml").write_text(yaml.safe_dump(written))
    check_folder([(run, planned)], ())
    other = replace(planned, data={**planned.data, "range": [0.0, 1023.0]})
    with pytest.raises(InputError, match=r"data\.range \[0\.0, 4095\.0\] and not \[0\.0, 1023\.0\]"):
        check_folder([(run, other)], ())
